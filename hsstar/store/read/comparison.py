"""The problems of two runs, compared."""

from dataclasses import dataclass

from sqlalchemy import Connection

from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class ComparedSlice:
    """The problems of an iteration in two runs."""

    number: int
    first: int
    second: int
    both: int


def compare_slices(connection: Connection, first: int, second: int) -> list[ComparedSlice]:
    """Return the problems of each iteration of two runs, by their ids, with those that they share."""
    values = {"first": first, "second": second}
    return rows_of(execute_file(connection, "compared_slices", values), ComparedSlice)
