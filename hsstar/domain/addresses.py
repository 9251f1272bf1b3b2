"""Addresses of rounds and samples as people write them: `demo/0`, `demo/heldout@1`, `demo/0/17/3`."""

from dataclasses import dataclass
from typing import Self

from hsstar.domain.errors import BadInputError

ITERATION = "iteration"
"""The measure of the samples of an iteration; that of an evaluation is its key."""


@dataclass(frozen=True, slots=True)
class RoundAddress:
    """A round of a run: `RUN/T` is iteration T, `RUN/MEASURE@T` what is measured of the policy M_T."""

    run: str
    measure: str  # `iteration`, `heldout`, or the key of a benchmark or of step labels
    number: int  # of the iteration, or t of the policy M_t

    def __str__(self) -> str:
        """Return the address in its written form."""
        measure = "" if self.measure == ITERATION else f"{self.measure}@"
        return f"{self.run}/{measure}{self.number}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; raise BadInputError if it is none."""
        run, _, round_ = text.partition("/")
        measure, at, number = round_.rpartition("@")
        if not run or not _is_number(number) or (at and not measure):
            raise BadInputError(
                f"{text!r} is no address of a round; expected RUN/ITERATION or RUN/MEASURE@POLICY, "
                "as in demo/0 or demo/heldout@1"
            )
        return cls(run, measure or ITERATION, int(number))


@dataclass(frozen=True, slots=True)
class SampleAddress:
    """A sample of a round: `ROUND/PROBLEM/SLOT`, as in `demo/0/17/3`; it exists before its sample does."""

    round: RoundAddress
    problem_id: int
    slot: int

    def __str__(self) -> str:
        """Return the address in its written form."""
        return f"{self.round}/{self.problem_id}/{self.slot}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; raise BadInputError if it is none."""
        round_, _, rest = text.rpartition("/")
        round_, _, problem = round_.rpartition("/")
        if not round_ or not _is_number(problem) or not _is_number(rest):
            raise BadInputError(
                f"{text!r} is no address of a sample; expected RUN/ITERATION/PROBLEM/SLOT, as in demo/0/17/3 "
                "(or demo/heldout@1/17/0); hsstar samples show RUN prints them"
            )
        return cls(RoundAddress.parse(round_), int(problem), int(rest))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _MOST_DIGITS


_MOST_DIGITS = 19
