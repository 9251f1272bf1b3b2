"""Training runs: their data, their progress step by step, and the policy that they made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, text

from hsstar.domain.rounding import SampledUpdate
from hsstar.domain.verdict import Verdict
from hsstar.store import method
from hsstar.store.database import execute_file, rows_of
from hsstar.store.queue.jobs import Job, fence
from hsstar.store.rounds import Round
from hsstar.store.runs import Run

METRIC_COLUMNS = {
    "loss": "loss",
    "rewards/chosen": "reward_chosen",
    "rewards/rejected": "reward_rejected",
    "rewards/margins": "reward_margin",
    "rewards/accuracies": "reward_accuracy",
    "logps/chosen": "logp_chosen",
    "logps/rejected": "logp_rejected",
    "kl": "kl",
    "mean_token_accuracy": "token_accuracy",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "tokens_per_second": "tokens_per_second",
}
"""The column in `training_steps` of a metric, by the trainer's name of it."""


@dataclass(frozen=True, slots=True)
class StoredPair:
    """A preference pair with its texts; which of them were cut at the token limit."""

    id: int
    statement: str
    chosen: str
    rejected: str
    chosen_cut: bool
    rejected_cut: bool
    chosen_source: str | None  # what drew it beside the policy
    rejected_source: str | None


@dataclass(frozen=True, slots=True)
class StoredExample:
    """A sample to learn from without a pair; `cut` tells whether it was cut at the token limit."""

    sample_id: int
    statement: str
    response: str
    cut: bool
    correct: bool
    source: str | None  # what drew it beside the policy


def load_pairs(connection: Connection, round_id: int) -> list[StoredPair]:
    """Return every pair of an iteration, in a fixed order."""
    return rows_of(execute_file(connection, "trained_pairs", {"round_id": round_id}), StoredPair)


def load_examples(
    connection: Connection, run: Run, iteration: Round, verdicts: Sequence[Verdict]
) -> list[StoredExample]:
    """Return every sample of `method.choose_examples`."""
    rows = connection.execute(
        text("""
            SELECT sample_id, problems.statement, sample_responses.response,
                coalesce(samples.finish_reason = 'length', false) AS cut,
                samples.verdict = 'correct' AS correct, source_rounds.source
            FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS examples (sample_id, place)
            JOIN samples ON samples.id = examples.sample_id
            JOIN problems ON problems.id = samples.problem_id
            JOIN sample_responses USING (sample_id)
            LEFT JOIN source_rounds USING (round_id)
            ORDER BY place
        """),
        {"ids": method.choose_examples(connection, run, iteration, verdicts)},
    )
    return rows_of(rows, StoredExample)


def begin_training(
    connection: Connection,
    job: Job,
    model_id: int,
    objective: str,
    settings: Mapping[str, Any],
    item_ids: Sequence[int],
) -> int:
    """Record that an attempt at a training of `model_id` starts; return the id of the record.

    `item_ids` are preference pairs, or samples without pairs, as often as an epoch has them.
    Raise LeaseLostError if the job, and with it the record, belongs to another worker.
    """
    fence(connection, job)
    values = {
        "round_id": job.round_id,
        "job_id": job.id,
        "model_id": model_id,
        "objective": objective,
        "settings": json.dumps(settings),
        "pairs": len(set(item_ids)),
        "item_ids": list(item_ids),
    }
    return int(execute_file(connection, "begin_training", values).scalar_one())


def report_start(
    connection: Connection,
    training_run_id: int,
    *,
    steps: int,
    resumed_at: int,
    truncated: int,
    left_out: int,
    lengths: Mapping[str, Mapping[str, int]],
) -> None:
    """Record the plan of a training, and delete the steps of earlier attempts after `resumed_at`."""
    connection.execute(
        text("""
            UPDATE training_runs
            SET steps = :steps, steps_done = :resumed_at, resumed_at = :resumed_at,
                truncated = :truncated, left_out = :left_out, lengths = CAST(:lengths AS jsonb)
            WHERE id = :id
        """),
        {
            "id": training_run_id,
            "steps": steps,
            "resumed_at": resumed_at,
            "truncated": truncated,
            "left_out": left_out,
            "lengths": json.dumps(lengths),
        },
    )
    connection.execute(
        text("DELETE FROM training_steps WHERE training_run_id = :id AND step > :resumed_at"),
        {"id": training_run_id, "resumed_at": resumed_at},
    )


def report_step(
    connection: Connection, training_run_id: int, step: int, steps: int, metrics: Mapping[str, float]
) -> None:
    """Write an optimiser step with the metrics that have a column, by the trainer's names."""
    connection.execute(
        text("""
            INSERT INTO training_steps (
                training_run_id, step, loss, reward_chosen, reward_rejected, reward_margin, reward_accuracy,
                logp_chosen, logp_rejected, kl, token_accuracy, grad_norm, learning_rate, tokens_per_second
            )
            VALUES (
                :id, :step, :loss, :reward_chosen, :reward_rejected, :reward_margin, :reward_accuracy,
                :logp_chosen, :logp_rejected, :kl, :token_accuracy, :grad_norm, :learning_rate,
                :tokens_per_second
            )
            ON CONFLICT (training_run_id, step) DO NOTHING
        """),
        {column: metrics.get(name) for name, column in METRIC_COLUMNS.items()}
        | {"id": training_run_id, "step": step},
    )
    connection.execute(
        text("UPDATE training_runs SET steps_done = :step, steps = :steps WHERE id = :id"),
        {"id": training_run_id, "step": step, "steps": steps},
    )


def note(connection: Connection, training_run_id: int, line: str) -> None:
    """Add a line with the time to the log of a training."""
    connection.execute(
        text("""
            UPDATE training_runs
            SET log = log || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SSZ ') || :line || E'\\n'
            WHERE id = :id
        """),
        {"id": training_run_id, "line": line},
    )


def finish_training(
    connection: Connection,
    training_run_id: int,
    output_model_id: int,
    truncated: int,
    steps: int,
    metrics: Mapping[str, float],
    update: SampledUpdate,
) -> None:
    """Record the policy that a training made, its metrics, and what changed in its weights."""
    connection.execute(
        text("""
            UPDATE training_runs
            SET finished_at = now(), output_model_id = :output, truncated = :truncated, steps = :steps,
                steps_done = :steps, metrics = CAST(:metrics AS jsonb), sampled_as = :sampled_as
            WHERE id = :id
        """),
        {
            "id": training_run_id,
            "output": output_model_id,
            "truncated": truncated,
            "steps": steps,
            "metrics": json.dumps(metrics),
            "sampled_as": update.sampled_as,
        },
    )
    if update.updates:
        connection.execute(
            text("""
                INSERT INTO layer_updates
                    (training_run_id, layer, format, weights, norm, changed, kept, cosine)
                VALUES (:id, :layer, :format, :weights, :norm, :changed, :kept, :cosine)
            """),
            [{"id": training_run_id} | asdict(row) for row in update.updates],
        )


def trained_model(connection: Connection, round_id: int) -> int | None:
    """Return the policy that an iteration's training made; None until it is finished."""
    query = text("SELECT output_model_id FROM training_runs WHERE round_id = :id AND finished_at IS NOT NULL")
    model_id: int | None = connection.scalar(query, {"id": round_id})
    return model_id


def ensure_training_job(connection: Connection, round_id: int) -> None:
    """Enqueue the training of an iteration, unless it has a job."""
    connection.execute(
        text("""
            INSERT INTO jobs (round_id, kind)
            SELECT :id, 'train'
            WHERE NOT EXISTS (SELECT FROM jobs WHERE round_id = :id AND kind = 'train')
        """),
        {"id": round_id},
    )
