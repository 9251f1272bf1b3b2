"""Every run in one row, and every worker in one row."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class RunSummary:
    """The state of a run: that of its first open iteration, else of its other rounds, or `not started`.

    These are `labelling steps`, `evaluating` or `done`. A held run is in none of them: its state says why.
    """

    run: str
    iterations: int
    iterations_done: int
    state: str
    jobs_queued: int
    jobs_running: int
    jobs_failed: int


def summarise_runs(connection: Connection, *, everything: bool = False) -> list[RunSummary]:
    """Return every run, oldest first; archived ones and finished evaluations only with `everything`."""
    return rows_of(execute_file(connection, "overview", {"everything": everything}), RunSummary)


@dataclass(frozen=True, slots=True)
class RunFigures:
    """The newest iteration of a run that has begun (None and 0 without one), and the run's accuracies."""

    run: str
    number: int | None
    model: str | None
    context: int | None  # tokens that the policy attends to at most
    output_model: str | None
    state: str
    started_at: datetime | None
    budget: int  # samples
    drawn: int
    verified: int
    correct: int
    cut: int
    cut_by_context: int
    no_answer: int
    pairs: int
    training_steps_done: int
    training_steps: int | None
    training_started_at: datetime | None
    seconds_per_iteration: float | None  # mean of those that are done
    accuracies: list[float]  # of the policies that are measured, in their order


def run_figures(connection: Connection) -> list[RunFigures]:
    """Return the figures of every run, oldest first."""
    return rows_of(execute_file(connection, "run_figures", {}), RunFigures)


def run_marks(connection: Connection) -> dict[str, str]:
    """Return a mark of every run, by name, that changes when there is something new to see of it."""
    return {row.name: row.mark for row in execute_file(connection, "run_marks", {})}


@dataclass(frozen=True, slots=True)
class WorkerSummary:
    """What a worker does and has done."""

    worker: str
    host: str
    role: str  # the queues that it serves, separated by commas
    gpu: str | None
    state: str  # `idle`, `busy`, `stopping`, `stopped`, or `lost` without a heartbeat for a minute
    jobs: int  # how many it runs
    job: int | None  # the oldest of them
    job_kind: str | None
    since: datetime | None
    jobs_done: int
    tokens_done: int
    last_heartbeat: datetime
    note: str | None  # what hinders it
    noted_at: datetime | None


def summarise_workers(connection: Connection, *, stopped: bool) -> list[WorkerSummary]:
    """Return the workers by name; with `stopped` also those that have stopped."""
    rows = connection.execute(
        text("""
            SELECT worker, host, role, gpu,
                CASE WHEN stop_requested_at IS NOT NULL AND state IN ('idle', 'busy') THEN 'stopping'
                    ELSE state END AS state,
                jobs, job, job_kind, since, jobs_done, tokens_done, last_heartbeat, note, noted_at
            FROM worker_activity WHERE :stopped OR state <> 'stopped' ORDER BY worker
        """),
        {"stopped": stopped},
    )
    return [WorkerSummary(**row) for row in rows.mappings()]


def token_rates(connection: Connection) -> dict[str, float]:
    """Return the tokens per second since its start, idle times included, of each worker that drew samples."""
    rows = connection.execute(
        text("""
            SELECT name, CAST(
                tokens_done / extract(epoch FROM last_heartbeat - started_at) AS double precision
            ) AS rate
            FROM workers WHERE tokens_done > 0 AND last_heartbeat > started_at
        """)
    )
    return {row.name: row.rate for row in rows}


@dataclass(frozen=True, slots=True)
class OpenQueue:
    """The jobs of one kind that are not done, of all runs."""

    kind: str
    queued: int
    running: int
    failed: int
    waited_seconds: float | None  # for which the oldest job that could run waits
    still_seconds: float | None  # for which a running job has got no further, at most
    workers: int  # live ones that serve the kind


def open_queues(connection: Connection) -> list[OpenQueue]:
    """Return the queues in which jobs are not done, by kind."""
    return rows_of(execute_file(connection, "open_queues", {}), OpenQueue)


@dataclass(frozen=True, slots=True)
class EvaluationEntry:
    """A model on a benchmark, measured by hsstar evaluate."""

    run: str  # where it is stored
    model: str
    benchmark: str
    measure: str  # benchmark and decoding in words
    state: str  # `running` or `done`
    accuracy: float | None
    standard_error: float | None
    problems: int
    samples: int
    finished: datetime | None


def list_evaluations(connection: Connection) -> list[EvaluationEntry]:
    """Return the evaluations that hsstar evaluate has made, oldest first."""
    return rows_of(execute_file(connection, "evaluations_of_models", {}), EvaluationEntry)
