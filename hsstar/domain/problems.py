"""Problems and imported samples, as rows of a data set describe them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from hsstar.domain.text import content_key

Repeat = Literal["never", "unsolved", "all"]
"""Which problems of earlier iterations a run takes again."""


class ProblemFormat(StrEnum):
    """The layout of the rows of a data set; `data/layouts.py` says what each is."""

    AUTO = "auto"
    """Decided from the first rows."""
    HSSTAR = "hsstar"
    CHOICES = "choices"
    HUMANEVAL = "humaneval"
    MBPP = "mbpp"
    APPS = "apps"
    LIVECODEBENCH = "livecodebench"
    VERL = "verl"
    OPENMATHREASONING = "openmathreasoning"
    DEEPMATH = "deepmath"
    BIGMATH = "big-math"
    METAMATH = "metamath"
    PUBLISHED = "hs-star"
    OPENR1 = "openr1"
    ACEMATH = "acemath"
    NUMINA = "numina"
    TRL = "trl"
    GSM8K = "gsm8k"
    MATH = "math"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question with its reference answer."""

    statement: str  # the question as the policy reads it
    reference: str  # the reference answer; empty if the row holds no readable one
    solution: str | None = None
    subject: str | None = None  # the branch of mathematics or the collection
    level: str | None = None  # difficulty as the source states it ("Level 3" is kept as "3")
    source_id: str | None = None  # the name of the problem in its source
    doubt: str | None = None  # what the source says against the problem: "problem_is_valid: Incomplete"
    occurrence: int = 0  # counts the problems of a benchmark with equal statements

    @property
    def key(self) -> str:
        """The key of the statement: two problems are duplicates if their keys are equal."""
        key = content_key(self.statement)
        return f"{key}-{self.occurrence}" if self.occurrence else key


@dataclass(frozen=True, slots=True)
class ImportedResponse:
    """A response that was drawn elsewhere; unknown fields are None."""

    text: str
    finish_reason: str | None = None  # `stop` or `length`
    cumulative_logprob: float | None = None  # sum of the log-probabilities of its tokens in nats


@dataclass(frozen=True, slots=True)
class ImportedSamples:
    """A problem with responses that were drawn elsewhere, in order."""

    problem: Problem
    responses: tuple[ImportedResponse, ...]
