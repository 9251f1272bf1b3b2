"""Delete a run with everything that only it has: rows, and the policies that it trained."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.marker import read_marker, scratch_folders
from hsstar.checkpoints.size import folder_bytes
from hsstar.commands.run_life import stop_run
from hsstar.domain.errors import ConflictError
from hsstar.store import models, runs
from hsstar.store.database import Database, lock_run
from hsstar.store.models import Model
from hsstar.store.runs import RunContents


@dataclass(frozen=True, slots=True)
class Deletion:
    """What the deletion of a run takes away, and what it leaves."""

    run: str
    contents: RunContents
    policies: Sequence[str]  # trained by it, and needed by nothing else
    kept_policies: Sequence[str]  # trained by it, and needed elsewhere
    checkpoint_bytes: int  # of those that go


def plan_deletion(database: Database, name: str) -> Deletion:
    """Say what the deletion of a run takes away; raise ConflictError if a fork shares its iterations."""
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        _refuse_forked(connection, run.id, name)
        trained = models.trained_by(connection, run.id)
        doomed = models.needed_by_run_alone(connection, run.id)
        contents = runs.count_contents(connection, run.id)
        database_id = models.database_id(connection)
    return Deletion(
        name,
        contents,
        [model.name for model in doomed],
        [model.name for model in trained if model not in doomed],
        sum(folder_bytes(folder) for folder in _folders(doomed, database_id)),
    )


def delete_run(database: Database, name: str, author: str, models_folder: Path) -> Deletion:
    """Stop a run's jobs, then delete it in one transaction, then the checkpoints that nothing else needs.

    Interrupted before the transaction ends, the run is cancelled and whole. Raise ConflictError if a fork
    shares its iterations.
    """
    deletion = plan_deletion(database, name)
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        lock_run(connection, run.id)
        stop_run(connection, run.id, f"being deleted by {author}")
    database.limits = replace(database.limits, statement=0)  # a large run takes its time
    with database.begin() as connection:
        lock_run(connection, run.id)
        _refuse_forked(connection, run.id, name)
        doomed = models.needed_by_run_alone(connection, run.id)
        runs.delete(connection, run.id)
        models.delete(connection, doomed)
        database_id = models.database_id(connection)
    for folder in _folders(doomed, database_id):
        shutil.rmtree(folder, ignore_errors=True)
    _clear_folder(models_folder / name, database_id)
    return deletion


def _folders(doomed: Sequence[Model], database_id: str) -> list[Path]:
    """The folders of policies that bear the mark of this database."""
    marked = ((Path(model.location), read_marker(Path(model.location))) for model in doomed)
    return [folder for folder, marker in marked if marker is not None and marker.database == database_id]


def _clear_folder(folder: Path, database_id: str) -> None:
    """Remove what interrupted trainings left, and the folder of the run if it is empty then."""
    for scratch in scratch_folders(folder, database_id):
        shutil.rmtree(scratch, ignore_errors=True)
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def _refuse_forked(connection: Connection, run_id: int, name: str) -> None:
    if forks := runs.list_forks(connection, run_id):
        raise ConflictError(
            f"{', '.join(forks)} shares iterations of run {name!r}; delete the fork first, "
            f"or archive the run: hsstar runs archive {name}"
        )
