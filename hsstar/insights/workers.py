"""Workers: what they do and have done."""

from hsstar.store.database import Database
from hsstar.store.read import overview
from hsstar.store.read.overview import OpenQueue, WorkerSummary


def list_workers(database: Database, *, stopped: bool = False) -> list[WorkerSummary]:
    """Return the workers by name; with `stopped` also those that have stopped."""
    with database.begin() as connection:
        return overview.summarise_workers(connection, stopped=stopped)


def token_rates(database: Database) -> dict[str, float]:
    """Return the tokens per second of the workers that drew samples, by name; idle times included."""
    with database.begin() as connection:
        return overview.token_rates(connection)


def open_queues(database: Database) -> list[OpenQueue]:
    """Return the queues in which jobs are not done, of all runs together."""
    with database.begin() as connection:
        return overview.open_queues(connection)
