"""The missing work of a run, item by item."""

from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file


@dataclass(frozen=True, slots=True)
class MissingEntry:
    """What a run lacks of one problem, or a trained policy, and the job that will make it.

    Attributes:
        problem: None for a trained policy.
        lacks: `sample`, `verdict`, `reward` or `trained policy`.
        slots: of the samples; empty for a trained policy.
        job: None if the next sweep will enqueue it.
        held_by: state and worker of that job, or `the next sweep`.
        error: of that job.
    """

    round: str
    problem: int | None
    lacks: str
    slots: tuple[int, ...]
    job: int | None
    held_by: str
    error: str | None


def list_missing(connection: Connection, run_id: int) -> list[MissingEntry]:
    """Return every sample, verdict, reward and training that a run lacks, by round and problem."""
    rows = execute_file(connection, "missing", {"run_id": run_id}).mappings()
    return [MissingEntry(**{**row, "slots": tuple(row["slots"])}) for row in rows]
