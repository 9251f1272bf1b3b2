"""What a monitoring system is shown, as the rows say it at one moment."""

from dataclasses import dataclass

from hsstar.store.database import Database
from hsstar.store.read import metrics
from hsstar.store.read.metrics import (
    CauseCount,
    JobCount,
    LevelCount,
    PolicyAccuracy,
    QueueAge,
    RunState,
    SampleCount,
    TrainingState,
    WorkerCount,
)
from hsstar.store.reader_role import only_read

MOST_RUNS = 100
"""Of so many runs the figures are shown, the newest: a monitoring system keeps every series for weeks."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The figures of one moment."""

    runs: list[RunState]
    runs_left_out: int  # not archived, and older than the newest `MOST_RUNS`
    jobs: list[JobCount]
    queues: list[QueueAge]
    samples: list[SampleCount]
    causes: list[CauseCount]
    levels: list[LevelCount]
    accuracies: list[PolicyAccuracy]
    trainings: list[TrainingState]
    workers: list[WorkerCount]


def load_metrics(database: Database) -> Metrics:
    """Load the figures in one transaction that may only read; raise DatabaseError if that fails."""
    with database.begin() as connection:
        only_read(connection)
        runs = metrics.run_states(connection, MOST_RUNS)
        ids = [run.id for run in runs]
        return Metrics(
            runs=runs,
            runs_left_out=max(0, metrics.count_unarchived(connection) - len(runs)),
            jobs=metrics.job_counts(connection, ids),
            queues=metrics.queue_ages(connection),
            samples=metrics.sample_counts(connection, ids),
            causes=metrics.cause_counts(connection, ids),
            levels=metrics.level_counts(connection, ids),
            accuracies=metrics.policy_accuracies(connection, ids),
            trainings=metrics.training_states(connection, ids),
            workers=metrics.worker_counts(connection),
        )
