"""Two rounds on the same problems and slots: policies, runs or evaluations, sample against sample."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection

from hsstar.domain.addresses import RoundAddress
from hsstar.domain.errors import BadInputError, NotFoundError
from hsstar.domain.statistics import mcnemar_exact
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import comparison, problems
from hsstar.store.read.comparison import PairedCounts
from hsstar.store.read.problems import MeasuredRound

Cell = Literal["both", "only_first", "only_second", "neither"]
"""Which of two policies solves a problem: has at least half of its samples at common slots correct."""


@dataclass(frozen=True, slots=True)
class PairedProblem:
    """A problem in two rounds."""

    problem_id: int
    cell: Cell
    slots: int  # at which both rounds have a judged sample
    first: float  # share of correct ones of them
    second: float


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """Two rounds, slot by slot.

    Attributes:
        samples: the four cells over slots, by name.
        cells: the four cells over problems, by name.
        p_value: of McNemar's exact test on the problems that one policy alone solves.
        problems: the discordant ones first, by the size of their difference, then by id; of one cell if so
            asked.
    """

    first: RoundAddress
    second: RoundAddress
    first_model: str | None
    second_model: str | None
    samples: dict[Cell, int]
    cells: dict[Cell, int]
    p_value: float
    problems: list[PairedProblem]

    @property
    def differing(self) -> int:
        """How many problems one of the two alone solves."""
        return self.cells["only_first"] + self.cells["only_second"]


_CELLS: tuple[Cell, ...] = ("both", "only_first", "only_second", "neither")


def compare_rounds(
    database: Database, first: RoundAddress, second: RoundAddress, cell: Cell | None = None
) -> PairedComparison:
    """Compare two rounds at the problems and slots that both have; with a cell, list its problems only.

    Raise NotFoundError without one of them, BadInputError if they have no judged sample in common.
    """
    with database.begin() as connection:
        one, other = (_find_round(connection, address) for address in (first, second))
        rows = comparison.pair_problems(connection, one.round_id, other.round_id)
    if not rows:
        raise BadInputError(f"{first} and {second} have no judged samples at a common problem and slot")
    paired = [_paired(row) for row in rows]
    cells = {name: sum(row.cell == name for row in paired) for name in _CELLS}
    return PairedComparison(
        first,
        second,
        one.model,
        other.model,
        {name: sum(getattr(row, name) for row in rows) for name in _CELLS},
        cells,
        mcnemar_exact(cells["only_first"], cells["only_second"]),
        sorted((row for row in paired if cell in (None, row.cell)), key=_order),
    )


def _order(row: PairedProblem) -> tuple[bool, float, int]:
    return row.cell in ("both", "neither"), -abs(row.first - row.second), row.problem_id


def _paired(row: PairedCounts) -> PairedProblem:
    first, second = ((row.both + only) / row.slots for only in (row.only_first, row.only_second))
    solved: dict[tuple[bool, bool], Cell] = {
        (True, True): "both",
        (True, False): "only_first",
        (False, True): "only_second",
        (False, False): "neither",
    }
    return PairedProblem(row.problem_id, solved[first >= 0.5, second >= 0.5], row.slots, first, second)


def _find_round(connection: Connection, address: RoundAddress) -> MeasuredRound:
    run_id = runs.find_run(connection, address.run).id
    rounds = problems.list_rounds(connection, run_id)
    for row in rounds:
        if (row.measure, row.number) == (address.measure, address.number):
            return row
    known = [str(RoundAddress(address.run, row.measure, row.number)) for row in rounds]
    raise NotFoundError(f"there is no round {address} (there are: {', '.join(known) or 'none yet'})")
