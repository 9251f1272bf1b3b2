"""Verdicts on samples, each with its cause."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Kind = Literal["math", "choice", "exact", "numeric", "regex", "json", "gym", "python"]
"""The kinds of verification; `hsstar/verifier/kinds` has a module for each."""


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
    CHECK_FAILED = "check_failed"
    """The check itself failed: its function raised, its server was away."""


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
    Cause.CHECK_FAILED: None,
}


LASTING_CAUSES = frozenset({Cause.CORRECT, Cause.INCORRECT, Cause.UNPARSABLE, Cause.BAD_REFERENCE})
"""Causes that every machine finds; the others depend on the machine and the moment."""

PASSING_CAUSES = frozenset({Cause.TIMED_OUT, Cause.CRASHED, Cause.CHECK_FAILED})
"""Causes that say nothing about sample or reference, and may be gone the next time."""

LONGEST_DETAIL = 2_000
"""Characters of a cause's detail that are kept."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check finds: the cause of a verdict, and what it says beside it."""

    cause: Cause
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verifier's judgement of one response."""

    cause: Cause
    answer: str | None = None  # the final answer as written in the response; None without one
    detail: str | None = None  # what the check says beside the cause; None for mathematics

    @property
    def verdict(self) -> Verdict | None:
        """The verdict that follows from the cause."""
        return VERDICT_OF_CAUSE[self.cause]
