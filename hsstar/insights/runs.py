"""Runs: their state, their jobs, and what they lack."""

from dataclasses import dataclass
from datetime import datetime

from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import jobs, missing, overview
from hsstar.store.read.jobs import JobEntry
from hsstar.store.read.missing import MissingEntry
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
    forked_from: str | None  # run and first iteration of its own
    held: str | None  # why it does not continue: `paused`, `cancelled`, `archived` …


def find_run(database: Database, name: str) -> Run:
    """Return the run of this name; raise NotFoundError, which names the runs that exist."""
    with database.begin() as connection:
        return runs.find_run(connection, name)


def list_runs(database: Database, *, archived: bool = False) -> list[RunEntry]:
    """Return the runs that train, oldest first; with `archived` also those that are archived."""
    with database.begin() as connection:
        return [
            describe_run(run)
            for run in runs.list_runs(connection)
            if run.recipe.problems.used and (archived or run.held != "archived")
        ]


def describe_run(run: Run) -> RunEntry:
    """Return a run as a list of runs shows it."""
    return RunEntry(
        run.name,
        run.recipe.policy.model,
        run.recipe.problems.dataset,
        run.recipe.seed,
        run.created_at,
        run.forked_from,
        run.held,
    )


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
        return jobs.list_jobs(connection, run_id, state, limit)


def list_missing(database: Database, run: str) -> list[MissingEntry]:
    """Return every sample, verdict, reward and training that a run lacks."""
    with database.begin() as connection:
        return missing.list_missing(connection, runs.find_run(connection, run).id)
