"""Filters of selections: their types, and the check of what a user gives."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from operator import index
from typing import Any, Literal, TypeAlias, TypeVar

from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.domain.suggestions import did_you_mean
from hsstar.domain.verdict import Cause, Verdict
from hsstar.store.read.selections import Value

Item = TypeVar("Item")
Word = TypeVar("Word", bound=StrEnum)
OneOrMore: TypeAlias = Item | Sequence[Item]

PhaseName = Literal["pre", "re"]
VerdictName = Literal["correct", "incorrect", "none"]
LevelName = Literal["inlier", "boundary", "outlier", "none"]
CauseName = Literal[
    "correct",
    "incorrect",
    "no_answer",
    "unparsable",
    "timed_out",
    "crashed",
    "bad_reference",
    "check_failed",
    "none",
]
"""`none` means rows that have no such value yet, or never."""

_NONE = "none"
_WORDS: Mapping[str, tuple[str, ...]] = {
    "phase": ("pre", "re"),
    "verdict": (*map(str, Verdict), _NONE),
    "difficulty": (*map(str, Difficulty), _NONE),
    "cause": (*map(str, Cause), _NONE),
}
_NUMBERS = ("iteration", "problem_id", "slot")


def conditions(run: str, **filters: Any) -> dict[str, list[Value]]:
    """Return the conditions on a run's rows; a filter that is None is left out.

    Raise BadInputError for a word that the column never has, and for what is no whole number.
    """
    named = {column: _listed(given) for column, given in filters.items() if given is not None}
    checked: dict[str, list[Value]] = {"run": [run]}
    return checked | {column: _checked(column, given) for column, given in named.items()}


def one_of(kind: type[Word], name: str, value: Word | str) -> Word:
    """Return the word of an enumeration; raise BadInputError, which lists them, for another one."""
    legal = tuple(map(str, kind))
    _word(name, value, legal)
    return kind(value)


def _listed(given: Any) -> list[Any]:
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def _checked(column: str, given: list[Any]) -> list[Value]:
    if column in _WORDS:
        return [_word(column, value, _WORDS[column]) for value in given]
    if column in _NUMBERS:
        return [_number(column, value) for value in given]
    return [_text(column, value) for value in given]


def _word(column: str, value: Any, legal: tuple[str, ...]) -> str | None:
    if value not in legal:
        raise BadInputError(
            f"{column}={value!r} is not legal: it must be one of {', '.join(legal)}"
            f"{did_you_mean(str(value), legal)}"
        )
    return None if value == _NONE else str(value)


def _number(column: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        return index(value)  # numpy's whole numbers, too
    except TypeError:
        raise BadInputError(f"{column}={value!r} is not legal: it must be a whole number") from None


def _text(column: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadInputError(f"{column}={value!r} is not legal: it must be text")
    return value
