"""What a monitoring system counts: runs, jobs, queues, samples, accuracies; each of them by one query."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import execute_file, rows_of

_CAUSES_WITHIN_SECONDS = 86_400
"""How long after its end the verdict causes of an iteration are counted."""


@dataclass(frozen=True, slots=True)
class RunState:
    """Whether a run is held, and its iterations by state."""

    id: int
    run: str
    held: str | None
    waiting: int
    pre_sampling: int
    re_sampling: int
    training: int
    evaluating: int
    done: int


@dataclass(frozen=True, slots=True)
class JobCount:
    """The jobs of a run of one kind in one state."""

    run: str
    kind: str
    state: str
    jobs: int
    attempts: int
    lapses: int  # leases that ended without a sign that the worker was dead


@dataclass(frozen=True, slots=True)
class QueueAge:
    """A queue, of all runs; both are 0 without such a job."""

    kind: str
    oldest_seconds: float  # for which a queued job could have begun, at most
    still_seconds: float  # for which a running job has got no further, at most


@dataclass(frozen=True, slots=True)
class SampleCount:
    """The samples of a run in rounds of one kind."""

    run: str
    round: str  # `iteration`, `evaluation` or `steps`
    drawn: int
    verified: int
    scored: int
    correct: int
    cut: int
    tokens: int


@dataclass(frozen=True, slots=True)
class CauseCount:
    """The samples of a run's newest iteration with one verdict cause."""

    run: str
    cause: str
    samples: int


@dataclass(frozen=True, slots=True)
class LevelCount:
    """The problems of one difficulty level in the newest iteration of a run that has labels."""

    run: str
    level: str
    problems: int


@dataclass(frozen=True, slots=True)
class PolicyAccuracy:
    """An evaluation that is done."""

    run: str
    policy: int  # t of M_t
    measure: str
    accuracy: float
    standard_error: float | None
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class TrainingState:
    """The newest training of a run at its last recorded step."""

    run: str
    iteration: int
    step: int
    steps: int | None
    loss: float | None
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class WorkerCount:
    """The workers of one role in one state, and the tokens of the samples that they drew."""

    role: str
    state: str
    workers: int
    tokens: int


def run_states(connection: Connection, most: int) -> list[RunState]:
    """Return the newest runs that are not archived, newest first, at most `most`."""
    return rows_of(execute_file(connection, "metrics_runs", {"most": most}), RunState)


def count_unarchived(connection: Connection) -> int:
    """Return how many runs are not archived."""
    query = text("SELECT count(*) FROM runs WHERE held IS DISTINCT FROM 'archived'")
    return int(connection.execute(query).scalar_one())


def job_counts(connection: Connection, run_ids: Sequence[int]) -> list[JobCount]:
    """Count the jobs of runs."""
    return rows_of(execute_file(connection, "metrics_jobs", {"run_ids": run_ids}), JobCount)


def queue_ages(connection: Connection) -> list[QueueAge]:
    """Return the age of every queue."""
    values = {"kinds": [kind.value for kind in JobKind]}
    return rows_of(execute_file(connection, "metrics_queues", values), QueueAge)


def sample_counts(connection: Connection, run_ids: Sequence[int]) -> list[SampleCount]:
    """Count the samples of runs."""
    return rows_of(execute_file(connection, "metrics_samples", {"run_ids": run_ids}), SampleCount)


def cause_counts(connection: Connection, run_ids: Sequence[int]) -> list[CauseCount]:
    """Count the verdict causes of each run's newest iteration, unless it ended more than a day ago."""
    values = {"run_ids": run_ids, "within": _CAUSES_WITHIN_SECONDS}
    return rows_of(execute_file(connection, "metrics_causes", values), CauseCount)


def level_counts(connection: Connection, run_ids: Sequence[int]) -> list[LevelCount]:
    """Count the difficulty levels of each run's newest iteration that has labels."""
    return rows_of(execute_file(connection, "metrics_levels", {"run_ids": run_ids}), LevelCount)


def policy_accuracies(connection: Connection, run_ids: Sequence[int]) -> list[PolicyAccuracy]:
    """Return the accuracies of the policies of runs."""
    return rows_of(execute_file(connection, "metrics_accuracies", {"run_ids": run_ids}), PolicyAccuracy)


def training_states(connection: Connection, run_ids: Sequence[int]) -> list[TrainingState]:
    """Return the newest training of each run."""
    return rows_of(execute_file(connection, "metrics_trainings", {"run_ids": run_ids}), TrainingState)


def worker_counts(connection: Connection) -> list[WorkerCount]:
    """Count the workers that have not stopped."""
    rows = connection.execute(
        text("""
            SELECT role, state, count(*) AS workers, CAST(sum(tokens_done) AS bigint) AS tokens
            FROM worker_activity
            WHERE state <> 'stopped'
            GROUP BY role, state
            ORDER BY role, state
        """)
    )
    return rows_of(rows, WorkerCount)
