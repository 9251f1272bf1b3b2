"""Which training problems overlap a benchmark: equal statements, or a run of words in common.

Two statements are equal if they are after white space, dollar signs and the case of letters are taken
away. A word is a run of letters and digits, so neither LaTeX's marks nor spacing hide a copy. Statements
with fewer than `RUN_OF_WORDS` words overlap only if they are equal. A common run is a sign, not a proof:
boilerplate of a source can be as long.
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
    """How two statements overlap, the surer way first."""

    EXACT = "exact"
    RUN = "13-gram"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a statement is compared by.

    Attributes:
        exact: the statement without what does not count.
        runs: every `RUN_OF_WORDS` words that follow each other.
    """

    exact: str
    runs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overlap:
    """That a statement overlaps one of an index.

    Attributes:
        place: of the statement in the index.
        kind: how.
    """

    place: int
    kind: OverlapKind


def marks_of(statement: str) -> Marks:
    """What a statement is compared by, in time linear in its length."""
    plain = unicodedata.normalize("NFKC", statement).casefold()
    words = _WORD.findall(plain)
    runs = (" ".join(words[start : start + RUN_OF_WORDS]) for start in range(len(words) - RUN_OF_WORDS + 1))
    return Marks(_UNSEEN.sub("", plain), tuple(runs))


class OverlapIndex:
    """The statements of one benchmark, to be looked up by any number of others."""

    def __init__(self, statements: Sequence[str]) -> None:
        self._exact: dict[str, int] = {}
        self._runs: dict[str, int] = {}
        for place, statement in enumerate(statements):
            marks = marks_of(statement)
            self._exact.setdefault(marks.exact, place)
            for run in marks.runs:
                self._runs.setdefault(run, place)

    def find(self, marks: Marks) -> Overlap | None:
        """The first statement of the index that is equal, else the one that shares the first common run."""
        equal = self._exact.get(marks.exact)
        if equal is not None:
            return Overlap(equal, OverlapKind.EXACT)
        for run in marks.runs:
            if run in self._runs:
                return Overlap(self._runs[run], OverlapKind.RUN)
        return None
