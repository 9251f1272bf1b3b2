"""Two texts beside each other, with what only one of them has marked."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

Part = tuple[str, bool]
"""A part of a text, and whether the other text lacks it."""

MOST_WORDS = 1_000
"""Of the longer text between common beginning and end; the time grows with the product of the lengths."""
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def mark_differences(first: str, second: str) -> tuple[list[Part], list[Part], bool]:
    """Return both texts in parts, and whether they were compared word by word.

    If they are too long for that, all between their common beginning and end is marked.
    """
    one, other = _WORDS.findall(first), _WORDS.findall(second)
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    middle, other_middle = one[start : len(one) - end], other[start : len(other) - end]
    parts: tuple[list[Part], list[Part]] = ([], [])
    _add(parts[0], one[:start], marked=False)
    _add(parts[1], other[:start], marked=False)
    compared = max(len(middle), len(other_middle)) <= MOST_WORDS
    if compared:
        matcher = SequenceMatcher(None, middle, other_middle, autojunk=False)  # frequent words count too
        for tag, from_, to, other_from, other_to in matcher.get_opcodes():
            _add(parts[0], middle[from_:to], marked=tag != "equal")
            _add(parts[1], other_middle[other_from:other_to], marked=tag != "equal")
    else:
        _add(parts[0], middle, marked=True)
        _add(parts[1], other_middle, marked=True)
    _add(parts[0], one[len(one) - end :], marked=False)
    _add(parts[1], other[len(other) - end :], marked=False)
    return *parts, compared


def _common(first: Sequence[str], second: Sequence[str]) -> int:
    """Return how many words both begin with."""
    return next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )


def _add(parts: list[Part], words: Sequence[str], *, marked: bool) -> None:
    if words:
        parts.append(("".join(words), marked))
