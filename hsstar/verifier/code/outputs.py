"""Compare what a program wrote or returned with what is expected. This runs outside of the sandbox."""

import math
from typing import Any

_TOLERANCE = 1e-6
"""Relative, below 1 absolute: what most judges of programs grant to numbers with a decimal point."""


def same_output(written: str, expected: str) -> bool:
    """Compare line by line; spaces between words and empty lines do not count."""
    mine, theirs = _lines(written), _lines(expected)
    return mine == theirs or (
        len(mine) == len(theirs)
        and all(
            len(line) == len(other) and all(map(_same_word, line, other))
            for line, other in zip(mine, theirs, strict=True)
        )
    )


def same_value(value: Any, expected: Any) -> bool:
    """Compare a value with one from JSON: a tuple is a list, a key of an object is text.

    Published sets write some single values as a list of one.
    """
    value = _as_json(value)
    alone = isinstance(expected, list) and len(expected) == 1
    return _same(value, expected) or (alone and _same(value, expected[0]))


def _lines(text: str) -> list[list[str]]:
    return [words for line in text.splitlines() if (words := line.split())]


def _same_word(word: str, other: str) -> bool:
    if word == other:
        return True
    if not any(mark in part for part in (word, other) for mark in ".eE"):
        return False
    try:
        return _close(float(word), float(other))
    except ValueError:
        return False


def _same(value: Any, expected: Any) -> bool:
    match value, expected:
        case bool(), _:
            return value is expected
        case _, bool():
            return False
        case (float(), int() | float()) | (int(), float()):
            return _close(value, expected)
        case list(), list():
            return len(value) == len(expected) and all(map(_same, value, expected))
        case dict(), dict():
            return value.keys() == expected.keys() and all(
                _same(held, expected[key]) for key, held in value.items()
            )
    return type(value) is type(expected) and bool(value == expected)


def _close(value: float, other: float) -> bool:
    try:
        return value == other or math.isclose(value, other, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE)
    except OverflowError:  # a whole number beyond all floats
        return False


def _as_json(value: Any) -> Any:
    match value:
        case tuple() | list():
            return [_as_json(part) for part in value]
        case dict():
            return {key if isinstance(key, str) else str(key): _as_json(held) for key, held in value.items()}
    return value
