"""Workers: what they do and have done."""

from hsstar.store.database import Database
from hsstar.store.read import overview
from hsstar.store.read.overview import WorkerSummary


def list_workers(database: Database, *, stopped: bool = False) -> list[WorkerSummary]:
    """Return the workers by name; with `stopped` also those that have stopped."""
    with database.begin() as connection:
        return overview.summarise_workers(connection, stopped=stopped)
