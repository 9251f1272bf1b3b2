r"""Splitting a formula where its brackets allow it."""

import re
from functools import lru_cache

_BRACKET = re.compile(
    r"(?P<open>\\begin\{[A-Za-z]+\*?\}|\\\{|\\(?:langle|lfloor|lceil)(?![A-Za-z])|[(\[{])"
    r"|(?P<close>\\end\{[A-Za-z]+\*?\}|\\\}|\\(?:rangle|rfloor|rceil)(?![A-Za-z])|[)\]}])"
)


def split(source: str, separators: str) -> tuple[list[str], list[str]]:
    """The pieces between separators (a pattern) that stand outside of all brackets, and the separators."""
    pieces, found, depth, start = list[str](), list[str](), 0, 0
    for match in _scanner(separators).finditer(source):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif match["separator"] and depth == 0:
            pieces.append(source[start : match.start()].strip())
            found.append(match["separator"])
            start = match.end()
    return [*pieces, source[start:].strip()], found


def inside_brackets(source: str) -> tuple[str, str, str] | None:
    """Opening bracket, content and closing bracket of a text that one pair of brackets encloses, else None.

    The two may be of different kinds, as those of a half-open interval are.
    """
    opening = _BRACKET.match(source)
    if opening is None or not opening["open"]:
        return None
    depth = 0
    for match in _BRACKET.finditer(source):
        depth += 1 if match["open"] else -1
        if depth == 0:
            whole = match.end() == len(source)
            return (opening[0], source[opening.end() : match.start()], match[0]) if whole else None
    return None


@lru_cache
def _scanner(separators: str) -> re.Pattern[str]:
    return re.compile(rf"(?P<separator>{separators})|{_BRACKET.pattern}|\\[A-Za-z]+|\\.", re.DOTALL)
