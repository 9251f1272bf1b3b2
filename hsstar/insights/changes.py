"""Whether there is something new to see: what live pages wait for."""

import hashlib
from dataclasses import dataclass

from hsstar.store.database import Database
from hsstar.store.read import overview


@dataclass(frozen=True, slots=True)
class Marks:
    """Texts without meaning that change when rows do."""

    whole: str  # of all runs
    of_run: dict[str, str]  # by name


def run_marks(database: Database) -> Marks:
    """Return the marks of all runs by one query."""
    with database.begin() as connection:
        marks = overview.run_marks(connection)
    return Marks(hashlib.sha256(repr(marks).encode()).hexdigest(), marks)
