"""The signs around a formula, braces, and parts of a text."""

import re
from collections.abc import Iterable

# A lone dollar sign is money: the signs around a formula touch it.
FORMULA = re.compile(
    r"\$\$[^$]+\$\$|(?<!\\)\$(?!\s)[^$\n]+(?<![\s\\])\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]", re.DOTALL
)
_DELIMITERS = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"))
_ESCAPED_OR_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def strip_math_delimiters(text: str) -> str:
    """Remove white space and one pair of LaTeX math delimiters around the whole text."""
    text = text.strip()
    for opening, closing in _DELIMITERS:
        if text.startswith(opening) and text.endswith(closing) and len(text) >= len(opening) + len(closing):
            inner = text[len(opening) : -len(closing)]
            if opening not in inner and closing not in inner:
                return inner.strip()
    return text


def balanced_braces(text: str) -> bool:
    """Decide whether every unescaped brace of a LaTeX text has its partner."""
    depth = 0
    for part in _ESCAPED_OR_BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if depth < 0:
            return False
    return depth == 0


def contains_any(text: str, parts: Iterable[str]) -> bool:
    """Decide whether a text contains one of some parts, in less time than a generator or a pattern."""
    for part in parts:  # noqa: SIM110  # `any` over a generator takes twice as long
        if part in text:
            return True
    return False
