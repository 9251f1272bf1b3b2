"""Runs: their state, their jobs, and what they lack."""

from dataclasses import dataclass
from datetime import datetime

from hsstar.store import missing, runs
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.read import overview
from hsstar.store.read.overview import RunSummary
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run as a list of runs shows it."""

    run: str
    policy: str
    dataset: str
    seed: int
    created: datetime


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job as a list of jobs shows it; `seconds` is None until it has ended."""

    job: int
    run: str
    round: str
    kind: str
    state: str
    samples: int
    attempts: int
    worker: str | None
    seconds: float | None
    error: str | None


_LACKS = {"sample": "sample", "verify": "verdict", "score": "reward", "train": "trained policy"}


@dataclass(frozen=True, slots=True)
class MissingEntry:
    """What a run lacks of one problem, or a trained policy, and the job that will make it."""

    round: str
    problem: int | None
    lacks: str
    slots: tuple[int, ...]
    job: int | None  # None until a job holds it
    held_by: str  # `the next sweep` until a job holds it
    error: str | None


def find_run(database: Database, name: str) -> Run:
    """Return the run of this name; raise NotFoundError, which names the runs that exist."""
    with database.begin() as connection:
        return runs.find_run(connection, name)


def list_runs(database: Database) -> list[RunEntry]:
    """Return every run, oldest first."""
    with database.begin() as connection:
        return [
            RunEntry(
                run.name,
                run.recipe.policy.model,
                run.recipe.problems.dataset,
                run.recipe.seed,
                run.created_at,
            )
            for run in runs.list_runs(connection)
        ]


def summarise_runs(database: Database) -> list[RunSummary]:
    """Return the state of every run, oldest first."""
    with database.begin() as connection:
        return overview.summarise_runs(connection)


def active_runs(database: Database) -> list[Run]:
    """Return the runs that are under way, oldest first."""
    with database.begin() as connection:
        return [runs.get_run(connection, run_id) for run_id in runs.active_run_ids(connection)]


def list_jobs(database: Database, run: str | None, state: str | None, limit: int) -> list[JobEntry]:
    """Return the newest jobs, newest first, of one run or in one state where given."""
    with database.begin() as connection:
        run_id = None if run is None else runs.find_run(connection, run).id
        rows = jobs.list_jobs(connection, run_id, state, limit)
    return [
        JobEntry(
            row.id, row.run, row.round, row.kind, row.state, row.slots, row.attempts, row.worker,
            _seconds(row.started_at, row.finished_at), row.error,
        )
        for row in rows
    ]  # fmt: skip


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return None if start is None or end is None else (end - start).total_seconds()


def list_missing(database: Database, run: str) -> list[MissingEntry]:
    """Return every sample, verdict, reward and training that a run lacks."""
    with database.begin() as connection:
        rows = missing.list_missing(connection, runs.find_run(connection, run).id)
    return [
        MissingEntry(
            f"{row.round_kind} {row.number}", row.problem_id, _LACKS[row.kind], row.slots, row.job,
            " at ".join(filter(None, (row.state, row.worker))) or "the next sweep", row.error,
        )
        for row in rows
    ]  # fmt: skip
