"""Rows that leave: preference pairs, samples and rewards in the published layouts, streamed."""

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Connection, TextClause, text

from hsstar.store.runs import Run

_BATCH = 1_000
_REWARD_KEYS = ("query", "resp", "reward", "correct")

_PAIRS = text("""
    SELECT rounds.number AS iteration, problems.key AS problem, problems.statement,
        chosen_text.response AS chosen, rejected_text.response AS rejected,
        chosen.slot AS chosen_slot, rejected.slot AS rejected_slot,
        chosen.min_reward AS chosen_reward, rejected.min_reward AS rejected_reward
    FROM preference_pairs AS pairs
    JOIN rounds ON rounds.id = pairs.round_id
    JOIN problems ON problems.id = pairs.problem_id
    JOIN samples AS chosen ON chosen.id = pairs.chosen_sample_id
    JOIN samples AS rejected ON rejected.id = pairs.rejected_sample_id
    JOIN sample_responses AS chosen_text ON chosen_text.sample_id = chosen.id
    JOIN sample_responses AS rejected_text ON rejected_text.sample_id = rejected.id
    WHERE rounds.run_id = :run_id
    ORDER BY rounds.number, pairs.id
""")

_SAMPLES = text("""
    SELECT rounds.number AS iteration, problems.key AS problem, problems.statement AS query,
        sample_responses.response AS resp, problems.reference_answer AS ref_ans, samples.answer AS ans,
        samples.verdict = 'correct' AS correct, samples.cause, samples.slot,
        difficulty_labels.level AS difficulty,
        samples.min_reward, rewards.step_rewards AS reward, samples.tokens, samples.finish_reason,
        samples.cumulative_logprob, samples.seed, models.name AS model, samples.engine,
        samples.milliseconds
    FROM samples
    JOIN rounds ON rounds.id = samples.round_id AND rounds.kind = 'iteration'
    JOIN problems ON problems.id = samples.problem_id
    JOIN sample_responses ON sample_responses.sample_id = samples.id
    LEFT JOIN rewards ON rewards.sample_id = samples.id
    LEFT JOIN models ON models.id = samples.model_id
    LEFT JOIN difficulty_labels
        ON difficulty_labels.round_id = samples.round_id
        AND difficulty_labels.problem_id = samples.problem_id
    WHERE rounds.run_id = :run_id
    ORDER BY rounds.number, samples.problem_id, samples.slot
""")


def export_pairs(connection: Connection, run: Run, render: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """Every pair of a run: `prompt` by this renderer, `chosen`, `rejected`, and where they come from."""
    for row in _stream(connection, _PAIRS, run):
        statement = row.pop("statement")
        yield {"prompt": render(statement)} | row


def export_samples(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """Every sample of a run's iterations, with the published names of its fields."""
    return _stream(connection, _SAMPLES, run)


def export_rewards(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """Every scored sample of a run's iterations as a published reward line."""
    for row in _stream(connection, _SAMPLES, run):
        if row["reward"] is not None:
            yield {key: row[key] for key in _REWARD_KEYS}


def _stream(connection: Connection, query: TextClause, run: Run) -> Iterator[dict[str, Any]]:
    rows = connection.execute(query, {"run_id": run.id}, execution_options={"yield_per": _BATCH})
    for row in rows.mappings():
        yield dict(row)
