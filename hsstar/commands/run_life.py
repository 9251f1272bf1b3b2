"""Pause, resume, cancel, archive and rename runs; each is one transaction, safe at any moment."""

from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.marker import check_free
from hsstar.commands.runs import refuse_held, refuse_policy_names
from hsstar.domain.errors import ConflictError
from hsstar.recipe.recipe import parse_recipe
from hsstar.store import rounds, runs
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs


def pause_run(database: Database, name: str, author: str) -> int:
    """Hold a run: its running jobs end, its waiting ones are withdrawn; return how many still run.

    Nothing is lost: what is withdrawn is planned again by `resume_run`. Raise ConflictError if it is held.
    """
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        refuse_held(connection, run)
        runs.hold(connection, run.id, "paused", f"paused by {author}")
        jobs.withdraw(connection, run.id, running=False)
        return jobs.count_running(connection, run.id)


def cancel_run(database: Database, name: str, author: str) -> int:
    """Hold a run and withdraw all its jobs; return how many of them were running.

    Their workers notice with the next batch that they write, and drop it. What is written stays. Raise
    ConflictError if the run is cancelled or archived.
    """
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        run = runs.get_run(connection, run.id)
        if run.held in ("cancelled", "archived"):
            refuse_held(connection, run)
        return stop_run(connection, run.id, f"cancelled by {author}")


def stop_run(connection: Connection, run_id: int, reason: str) -> int:
    """Hold a run as cancelled and withdraw all its jobs; return how many of them were running."""
    runs.hold(connection, run_id, "cancelled", reason)
    return jobs.withdraw(connection, run_id, running=True)


def resume_run(database: Database, name: str) -> str:
    """Let a held run continue; return why it was held. Raise ConflictError if it is not held."""
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        run = runs.get_run(connection, run.id)
        if not runs.release_hold(connection, run.id):
            raise ConflictError(
                f"run {name!r} is not held: it continues by itself; see: hsstar status {name}"
            )
    return run.held_reason or ""


def archive_run(database: Database, name: str, author: str) -> None:
    """Hold a run and leave it out of lists. Raise ConflictError while it is under way."""
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        run = runs.get_run(connection, run.id)
        if run.held == "archived":
            refuse_held(connection, run)
        if run.held is None and rounds.has_open_rounds(connection, run.id):
            raise ConflictError(
                f"run {name!r} is under way; first: hsstar runs pause {name}, or hsstar runs cancel {name}"
            )
        runs.hold(connection, run.id, "archived", f"archived by {author}")


def rename_run(database: Database, name: str, new_name: str, models_folder: Path) -> None:
    """Give a run another name; its policies keep theirs, and their folders.

    Raises:
        ConflictError: the name is taken, a training is under way, or the run is that of an evaluation.
        RecipeError: it is no name of a run.
    """
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        parse_recipe(run.recipe.document() | {"name": new_name}, f"run {name}")
        if not run.recipe.problems.used:
            raise ConflictError(
                f"the name of run {name!r} says what it evaluates, by which it is found again"
            )
        if jobs.is_training(connection, run.id):
            raise ConflictError(
                f"run {name!r} trains a policy of that name; wait, or first: hsstar runs cancel {name}"
            )
        runs.rename(connection, run.id, new_name)
        refuse_policy_names(connection, new_name)
        check_free(models_folder / new_name)
