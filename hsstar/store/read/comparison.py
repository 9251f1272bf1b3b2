"""The problems of two runs, and the samples of two rounds, compared."""

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


@dataclass(frozen=True, slots=True)
class PairedCounts:
    """The samples of a problem in two rounds, slot by slot, as far as both are judged."""

    problem_id: int
    both: int  # slots at which both samples are correct
    only_first: int
    only_second: int
    neither: int

    @property
    def slots(self) -> int:
        """How many slots both rounds have judged."""
        return self.both + self.only_first + self.only_second + self.neither


def pair_problems(connection: Connection, first: int, second: int) -> list[PairedCounts]:
    """Return the problems that two rounds, by their ids, have both judged samples of, by problem."""
    values = {"first": first, "second": second}
    return rows_of(execute_file(connection, "paired_problems", values), PairedCounts)
