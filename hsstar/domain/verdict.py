"""Verdicts on samples, each with its cause."""

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Why a sample has its verdict."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"
    """The response holds no final answer."""
    UNPARSABLE = "unparsable"
    """A final answer was found but cannot be read as mathematics."""
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    """The checking process died on this response (memory, recursion)."""
    BAD_REFERENCE = "bad_reference"
    """The reference answer cannot be read, which says nothing about the sample."""


class Verdict(StrEnum):
    """`V(x, r)`; None if the check failed and not the sample."""

    CORRECT = "correct"
    INCORRECT = "incorrect"


VERDICT_OF_CAUSE: dict[Cause, Verdict | None] = {
    Cause.CORRECT: Verdict.CORRECT,
    Cause.INCORRECT: Verdict.INCORRECT,
    Cause.NO_ANSWER: Verdict.INCORRECT,
    Cause.UNPARSABLE: Verdict.INCORRECT,
    Cause.TIMED_OUT: None,
    Cause.CRASHED: None,
    Cause.BAD_REFERENCE: None,
}


LASTING_CAUSES = frozenset({Cause.CORRECT, Cause.INCORRECT, Cause.UNPARSABLE, Cause.BAD_REFERENCE})
"""Causes that every machine finds; time-outs and crashes depend on the machine and the moment."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verifier's judgement of one response."""

    cause: Cause
    answer: str | None = None  # the final answer as written in the response; None without one

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that follows from the cause."""
        return VERDICT_OF_CAUSE[self.cause]
