"""Split a formula outside of its brackets, or take its outer brackets off."""

import re
from functools import lru_cache

_BRACKET = re.compile(
    r"(?P<open>\\begin\{[A-Za-z]+\*?\}|\\\{|\\(?:langle|lfloor|lceil)(?![A-Za-z])|[(\[{])"
    r"|(?P<close>\\end\{[A-Za-z]+\*?\}|\\\}|\\(?:rangle|rfloor|rceil)(?![A-Za-z])|[)\]}])"
)


def split(source: str, separators: str) -> tuple[list[str], list[str]]:
    """Split at a pattern outside of all brackets; return the pieces and the separators."""
    pieces, matched, depth, start = list[str](), list[str](), 0, 0
    for match in _scanner(separators).finditer(source):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif match["separator"] and depth == 0:
            pieces.append(source[start : match.start()].strip())
            matched.append(match["separator"])
            start = match.end()
    return [*pieces, source[start:].strip()], matched


def inside_brackets(source: str) -> tuple[str, str, str] | None:
    """Return opening bracket, content and closing bracket if one pair of brackets encloses the text.

    The two may be of different kinds, like those of a half-open interval.
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
