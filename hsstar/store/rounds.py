"""Rounds: an iteration's or an evaluation's set of problems, sampled from one policy."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.store.database import execute_file, refresh_statistics
from hsstar.store.runs import Run

RoundKind = Literal["iteration", "evaluation"]


@dataclass(frozen=True, slots=True)
class Round:
    """Where samples are drawn for.

    Attributes:
        number: of the iteration, or t of the evaluated policy M_t.
        model_id: the policy; None while an iteration waits for it.
    """

    id: int
    run_id: int
    kind: RoundKind
    number: int
    model_id: int | None


@dataclass(frozen=True, slots=True)
class Iteration:
    """One iteration of a run."""

    round: Round
    state: IterationState
    output_model_id: int | None


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What a round still lacks, as one look at the rows tells.

    Attributes:
        live: queued or running jobs.
        failed: failed jobs.
        undrawn: samples of the allotment that are not there.
        unverified: samples without a cause.
        unscored: samples without a reward.
    """

    live: int
    failed: int
    undrawn: int
    unverified: int
    unscored: int


_ROUNDS = "SELECT id, run_id, kind, number, model_id FROM rounds"


def get_round(connection: Connection, round_id: int) -> Round:
    """The round of this id."""
    return Round(*connection.execute(text(f"{_ROUNDS} WHERE id = :id"), {"id": round_id}).one())


def list_iterations(connection: Connection, run_id: int) -> list[Iteration]:
    """The iterations of a run by number."""
    rows = connection.execute(
        text("""
            SELECT id, run_id, kind, number, model_id, state, output_model_id
            FROM rounds JOIN iterations ON iterations.round_id = rounds.id
            WHERE run_id = :run_id ORDER BY number
        """),
        {"run_id": run_id},
    )
    return [Iteration(Round(*row[:5]), IterationState(row.state), row.output_model_id) for row in rows]


def list_policies(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    """(t, name of M_t) for the policies of a run that are there: its first, and what each iteration made."""
    rows = connection.execute(
        text("""
            SELECT 0 AS number, models.name
            FROM runs JOIN models ON models.id = runs.model_id WHERE runs.id = :run_id
            UNION ALL
            SELECT number + 1, models.name
            FROM rounds
            JOIN iterations ON iterations.round_id = rounds.id
            JOIN models ON models.id = iterations.output_model_id
            WHERE run_id = :run_id
            ORDER BY number
        """),
        {"run_id": run_id},
    )
    return [(row.number, row.name) for row in rows]


def add_round(
    connection: Connection,
    run_id: int,
    kind: RoundKind,
    number: int,
    model_id: int | None,
    evaluation_key: str = "",
) -> Round:
    """Adds a round without problems.

    Args:
        connection: an open transaction.
        run_id: whose round it is.
        kind: `iteration` or `evaluation`.
        number: as in `Round`.
        model_id: as in `Round`.
        evaluation_key: what an evaluation measures, empty for an iteration.
    """
    round_id = connection.execute(
        text(
            "INSERT INTO rounds (run_id, kind, number, model_id, evaluation_key) "
            "VALUES (:run_id, :kind, :number, :model_id, :evaluation_key) RETURNING id"
        ),
        {
            "run_id": run_id,
            "kind": kind,
            "number": number,
            "model_id": model_id,
            "evaluation_key": evaluation_key,
        },
    ).scalar_one()
    return Round(round_id, run_id, kind, number, model_id)


def add_iterations(connection: Connection, run: Run, numbers: Sequence[int]) -> None:
    """Adds waiting iterations; the conductor starts each when its policy is there."""
    for number in numbers:
        added = add_round(connection, run.id, "iteration", number, None)
        connection.execute(
            text("INSERT INTO iterations (round_id, pre_samples) VALUES (:id, :pre_samples)"),
            {"id": added.id, "pre_samples": run.recipe.sampling.budget.pre_samples},
        )


def begin_iteration(connection: Connection, round_id: int, model_id: int, per_problem: int) -> None:
    """Gives a waiting iteration its policy and its budget; its problems are there already."""
    connection.execute(
        text("UPDATE rounds SET model_id = :model_id WHERE id = :id"), {"id": round_id, "model_id": model_id}
    )
    connection.execute(
        text("""
            UPDATE iterations
            SET state = 'pre_sampling', started_at = now(),
                budget = :n * (SELECT count(*) FROM round_problems WHERE round_id = :id)
            WHERE round_id = :id
        """),
        {"id": round_id, "n": per_problem},
    )


def set_state(
    connection: Connection, round_id: int, state: IterationState, output_model_id: int | None = None
) -> None:
    """Moves an iteration to a state, and names the policy that it made once there is one."""
    connection.execute(
        text("""
            UPDATE iterations
            SET state = :state, output_model_id = coalesce(:output, output_model_id),
                finished_at = CASE WHEN :state = 'done' THEN now() END
            WHERE round_id = :id
        """),
        {"id": round_id, "state": state, "output": output_model_id},
    )


def take_slice(
    connection: Connection,
    round_id: int,
    dataset_id: int,
    seed: int,
    limit: int | None,
    allotment: int,
    *,
    without_overlaps: bool = False,
) -> int:
    """Gives a round its problems: the first of the dataset in the run's seeded order.

    An iteration passes over the problems of the run's other iterations, so that its slice is fresh.
    Problems whose reference answer cannot be read are left out beforehand, and on demand those that
    overlap a dataset of evaluations. Returns how many there are.
    """
    result = connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment)
            SELECT :round_id, id, place, :allotment
            FROM (
                SELECT id, row_number() OVER (
                    ORDER BY sha256(convert_to(concat_ws(':', CAST(:seed AS bigint), 'slice', key), 'UTF8'))
                ) - 1 AS place
                FROM problems
                WHERE dataset_id = :dataset_id AND reference_readable AND NOT (
                    :without_overlaps AND EXISTS (SELECT FROM problem_overlaps WHERE problem_id = problems.id)
                ) AND NOT EXISTS (
                    SELECT FROM round_problems AS used
                    JOIN rounds AS earlier ON earlier.id = used.round_id
                    JOIN rounds AS this ON this.id = :round_id
                    WHERE used.problem_id = problems.id
                      AND earlier.run_id = this.run_id
                      AND earlier.kind = this.kind
                      AND this.kind = 'iteration'
                )
            ) AS ordered
            WHERE CAST(:limit AS int) IS NULL OR place < :limit
        """),
        {
            "round_id": round_id,
            "dataset_id": dataset_id,
            "seed": seed,
            "limit": limit,
            "allotment": allotment,
            "without_overlaps": without_overlaps,
        },
    )
    refresh_statistics(connection, "round_problems")
    return result.rowcount


def fresh_problems(
    connection: Connection, run_id: int | None, dataset_id: int, *, without_overlaps: bool = False
) -> int:
    """How many usable problems of a dataset no iteration of the run has taken yet.

    A run that is not there yet (None) has taken none.
    """
    found: int = connection.execute(
        text("""
            SELECT count(*) FROM problems
            WHERE dataset_id = :dataset_id AND reference_readable AND NOT (
                :without_overlaps AND EXISTS (SELECT FROM problem_overlaps WHERE problem_id = problems.id)
            ) AND NOT EXISTS (
                SELECT FROM round_problems AS used
                JOIN rounds ON rounds.id = used.round_id
                WHERE used.problem_id = problems.id AND kind = 'iteration'
                  AND run_id = CAST(:run_id AS bigint)
            )
        """),
        {"dataset_id": dataset_id, "run_id": run_id, "without_overlaps": without_overlaps},
    ).scalar_one()
    return found


def found_slice(connection: Connection, round_id: int, problem_ids: Sequence[int], allotment: int) -> None:
    """Gives a round exactly these problems, in this order."""
    connection.execute(
        text("""
            INSERT INTO round_problems (round_id, problem_id, position, allotment)
            SELECT :round_id, problem_id, place - 1, :allotment
            FROM unnest(CAST(:ids AS bigint[])) WITH ORDINALITY AS given (problem_id, place)
        """),
        {"round_id": round_id, "ids": list(problem_ids), "allotment": allotment},
    )
    refresh_statistics(connection, "round_problems")


def has_problems(connection: Connection, round_id: int) -> bool:
    """Whether the round has its problems already."""
    found = connection.scalar(
        text("SELECT EXISTS (SELECT FROM round_problems WHERE round_id = :id)"), {"id": round_id}
    )
    return bool(found)


def exclude(connection: Connection, round_id: int, reasons: dict[int, str]) -> None:
    """Leaves problems out of a round from now on, each with its reason, by problem id."""
    connection.execute(
        text("""
            UPDATE round_problems SET exclusion = given.reason
            FROM unnest(CAST(:ids AS bigint[]), CAST(:reasons AS text[])) AS given (problem_id, reason)
            WHERE round_id = :round_id AND round_problems.problem_id = given.problem_id AND exclusion IS NULL
        """),
        {"round_id": round_id, "ids": list(reasons), "reasons": list(reasons.values())},
    )


def has_live_jobs(connection: Connection, round_id: int) -> bool:
    """Whether a job of the round is queued or running."""
    found = connection.scalar(
        text("SELECT EXISTS (SELECT FROM jobs WHERE round_id = :id AND state IN ('queued', 'running'))"),
        {"id": round_id},
    )
    return bool(found)


def runs_without_work(connection: Connection) -> list[int]:
    """Runs that may have to be moved on: one of their rounds is not done and has no live job.

    An iteration that waits for the policy of an earlier one does not count.
    """
    rows = connection.execute(
        text("""
            SELECT DISTINCT rounds.run_id
            FROM rounds
            LEFT JOIN iterations ON iterations.round_id = rounds.id
            LEFT JOIN evaluations ON evaluations.round_id = rounds.id
            WHERE (iterations.state <> 'done'
                   OR evaluations.round_id IS NOT NULL AND evaluations.finished_at IS NULL)
              AND NOT EXISTS (
                  SELECT FROM jobs WHERE jobs.round_id = rounds.id AND jobs.state IN ('queued', 'running')
              )
              AND NOT (iterations.state = 'waiting' AND EXISTS (
                  SELECT FROM rounds AS earlier
                  JOIN iterations AS before ON before.round_id = earlier.id
                  WHERE earlier.run_id = rounds.run_id AND earlier.number < rounds.number
                    AND before.output_model_id IS NULL
              ))
            ORDER BY 1
        """)
    )
    return list(rows.scalars())


def shortfall(connection: Connection, round_id: int) -> Shortfall:
    """What the round still lacks."""
    row = connection.execute(
        text("""
            WITH
            wanted AS (
                SELECT coalesce(sum(allotment), 0) AS samples
                FROM round_problems WHERE round_id = :id AND exclusion IS NULL
            ),
            there AS (
                SELECT
                    count(*) FILTER (WHERE slot < allotment) AS samples,
                    count(*) FILTER (WHERE cause IS NULL) AS unverified,
                    count(*) FILTER (WHERE min_reward IS NULL) AS unscored
                FROM samples
                JOIN round_problems USING (round_id, problem_id)
                WHERE round_id = :id AND exclusion IS NULL
            ),
            held AS (
                SELECT
                    count(*) FILTER (WHERE state IN ('queued', 'running')) AS live,
                    count(*) FILTER (WHERE state = 'failed') AS failed
                FROM jobs WHERE round_id = :id AND state <> 'done'
            )
            SELECT live, failed, wanted.samples - there.samples, unverified, unscored
            FROM wanted, there, held
        """),
        {"id": round_id},
    ).one()
    return Shortfall(*row)


def allocate(
    connection: Connection,
    round_id: int,
    kind: JobKind,
    job_samples: int,
    problem_ids: Sequence[int] | None = None,
) -> list[int]:
    """Enqueues what the round still lacks of one kind of work; returns the ids of the new jobs.

    The caller holds the run's lock. Running it again enqueues nothing.
    """
    result = execute_file(
        connection,
        "allocate",
        {
            "round_id": round_id,
            "kind": kind.value,
            "problem_ids": None if problem_ids is None else list(problem_ids),
            "job_samples": job_samples,
        },
    )
    return list(result.scalars())
