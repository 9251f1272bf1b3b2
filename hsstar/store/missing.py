"""What exactly a run still lacks and what holds it; and discarding what has failed."""

from collections import defaultdict
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState, states_before
from hsstar.store import rounds
from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class Missing:
    """Work of one kind on one problem that is not done, and the job that holds it.

    Attributes:
        round_kind: `iteration` or `evaluation`.
        number: of the iteration, or t of the evaluated policy M_t.
        problem_id: None for a training.
        kind: `sample`, `verify` (a verdict), `score` (a reward) or `train`.
        slots: the slots of the samples concerned; empty for a training.
        job: the job that holds it; None where the next sweep enqueues it.
        state: of that job.
        worker: where it runs.
        error: of its last attempt.
    """

    round_kind: str
    number: int
    problem_id: int | None
    kind: str
    slots: tuple[int, ...]
    job: int | None
    state: str | None
    worker: str | None
    error: str | None


def list_missing(connection: Connection, run_id: int) -> list[Missing]:
    """Every sample, verdict, reward and training that a run lacks, by round and problem."""
    rows = execute_file(connection, "missing", {"run_id": run_id})
    return [
        Missing(
            row.round_kind, row.number, row.problem_id, row.kind, tuple(row.slots), row.job, row.state,
            row.worker, row.error,
        )
        for row in rows
    ]  # fmt: skip


def discard_failed(connection: Connection, run_id: int) -> int:
    """Discard the failed jobs of a run and leave their problems out of their rounds.

    A discarded training leaves the iteration with the policy that it sampled from. Returns how many
    jobs there were.
    """
    found = connection.execute(
        text("""
            WITH discarded AS (
                UPDATE jobs SET state = 'discarded'
                FROM rounds
                WHERE rounds.id = jobs.round_id AND rounds.run_id = :run_id AND jobs.state = ANY (:before)
                RETURNING jobs.id, jobs.round_id, jobs.error
            )
            SELECT discarded.id, round_id, error, problem_id
            FROM discarded LEFT JOIN job_items ON job_items.job_id = discarded.id
        """),
        {"run_id": run_id, "before": states_before(JobState.DISCARDED)},
    ).all()
    reasons: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for row in found:
        if row.problem_id is not None:
            reasons[row.round_id][row.problem_id] = f"discarded: {row.error}"
    for round_id, by_problem in reasons.items():
        rounds.exclude(connection, round_id, by_problem)
    return len({row.id for row in found})


def training_discarded(connection: Connection, round_id: int) -> bool:
    """Tell whether the training of an iteration was discarded."""
    found = connection.scalar(
        text("SELECT EXISTS (SELECT FROM jobs WHERE round_id = :id AND kind = :kind AND state = :state)"),
        {"id": round_id, "kind": JobKind.TRAIN, "state": JobState.DISCARDED},
    )
    return bool(found)
