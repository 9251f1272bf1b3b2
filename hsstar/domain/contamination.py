"""Contamination: training problems that overlap a benchmark by statement or by a run of words.

Statements are equal if they differ only in white space, dollar signs and case. A word is a run of letters
and digits, so neither LaTeX markup nor spacing hides a copy. Statements with fewer than `RUN_OF_WORDS`
words overlap only if they are equal. A common run is evidence, not proof: boilerplate can be as long.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

RUN_OF_WORDS = 13

_WORD = re.compile(r"[^\W_]+")
_UNSEEN = re.compile(r"[\s$]+")


class OverlapKind(StrEnum):
    """The kind of an overlap, the surest first."""

    EXACT = "exact"
    RUN = "13-gram"


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks by which statements are compared."""

    exact: str  # the statement without white space, dollar signs and case
    runs: tuple[str, ...]  # every run of `RUN_OF_WORDS` words


@dataclass(frozen=True, slots=True)
class Overlap:
    """An overlap with the statement at this place of an index."""

    place: int
    kind: OverlapKind


def marks_of(statement: str) -> Marks:
    """Return the marks of a statement, in time linear in its length."""
    plain = unicodedata.normalize("NFKC", statement).casefold()
    words = _WORD.findall(plain)
    runs = (" ".join(words[start : start + RUN_OF_WORDS]) for start in range(len(words) - RUN_OF_WORDS + 1))
    return Marks(_UNSEEN.sub("", plain), tuple(runs))


class OverlapIndex:
    """An index of the statements of one benchmark."""

    def __init__(self, statements: Sequence[str]) -> None:
        self._exact: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        for place, statement in enumerate(statements):
            marks = marks_of(statement)
            self._exact.setdefault(marks.exact, place)
            for run in marks.runs:
                self._runs.setdefault(run, place)

    def find(self, marks: Marks) -> Overlap | None:
        """Return the overlap with the first equal statement, else with the one that shares the first run."""
        equal = self._exact.get(marks.exact)
        if equal is not None:
            return Overlap(equal, OverlapKind.EXACT)
        for run in marks.runs:
            if run in self._runs:
                return Overlap(self._runs[run], OverlapKind.RUN)
        return None


@dataclass(frozen=True, slots=True)
class OverlapCount:
    """The number of problems of one dataset that overlap another."""

    dataset: str
    problems: int  # all problems of `dataset`
    against: str  # the evaluation dataset
    exact: int  # problems whose statement `against` holds too
    runs: int  # other problems that share a run of words with one of `against`
