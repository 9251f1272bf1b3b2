"""What an engine says about its work, kept with its worker for `worker_activity`."""

import logging
from collections.abc import Callable

from hsstar.domain.errors import DatabaseError
from hsstar.store import workers
from hsstar.store.database import Database

log = logging.getLogger("hsstar.worker")


def note_taker(database: Database, worker: str) -> Callable[[str], None]:
    """Takes notes of a worker's engine; one that the database does not take is left to the log."""

    def note(text: str) -> None:
        try:
            with database.begin() as connection:
                workers.leave_note(connection, worker, text)
        except DatabaseError as error:
            log.warning("a note was not kept: %s", error)

    return note
