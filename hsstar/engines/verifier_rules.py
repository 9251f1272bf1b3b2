r"""Comparing answers as text: what can be decided for sure without algebra, and what the parser may see.

Answers come from a model and are untrusted. Nothing here evaluates them.
"""

import re

from hsstar.domain.answers import balanced_braces, strip_math_delimiters
from hsstar.domain.verdict import Cause

LONGEST_ANSWER = 10_000
"""Answers with more characters than this are not read as mathematics."""

_DEEPEST_NESTING = 30  # the parser takes seconds beyond it
_DELIMITERS = re.compile(r"(?<!\\)\\[()$]|\$")
_SPACE_COMMANDS = re.compile(r"(?<!\\)\\(?:[,!;: ]|(?:quad|qquad)(?![A-Za-z]))|~")
_SIZE_COMMANDS = re.compile(r"(?<!\\)\\(?:(?:left|right)(?![A-Za-z.])|displaystyle(?![A-Za-z]))")
_SPACE_BETWEEN_WORDS = re.compile(r"(?<=[\w\\])\s+(?=[\w\\])")
_THOUSANDS = re.compile(r"(?<=\d)(?:\{,\}|\\,|,\\!|\\!,)(?=\d{3}(?!\d))")
_FULL_STOP = re.compile(r"(?<!\\left)(?<!\\right)\.\Z")
_SPELLINGS = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\leqslant(?![A-Za-z])"), r"\\leq"),
    (re.compile(r"\\geqslant(?![A-Za-z])"), r"\\geq"),
)
_SCIENTIFIC = re.compile(r"([-+]?\d+(?:\.\d*)?)[eE]([-+]?\d+)")
_NUMBER = re.compile(r"(?P<sign>[-+]?)(?P<whole>\d{1,3}(?:,\d{3})+|\d*)(?:\.(?P<fraction>\d*))?")
_FORBIDDEN = re.compile(r"__|[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff]|[A-Za-z_]\w*\s*\.\s*[A-Za-z_]\w*\s*\(")
_BRACKETS = re.compile(r"[(\[{]|[)\]}]")


def decide_as_text(answer: str, reference: str) -> Cause | None:
    """`CORRECT` or `INCORRECT` where the text alone is proof, None where it takes algebra.

    Equal spellings and equal numbers (thousands separators, leading and trailing zeros aside) are correct;
    different integers, both written plainly, are incorrect.
    """
    if max(len(answer), len(reference)) > LONGEST_ANSWER:
        return None
    answer, reference = normal_spelling(answer), normal_spelling(reference)
    if not answer or not reference:
        return None
    if answer == reference:
        return Cause.CORRECT
    answer_number, reference_number = _number(answer), _number(reference)
    if answer_number is None or reference_number is None:
        return None
    if answer_number == reference_number:
        return Cause.CORRECT
    return Cause.INCORRECT if _plain_integer(answer) and _plain_integer(reference) else None


def is_number(text: str) -> bool:
    """Whether a text is a decimal number, thousands separators allowed: readable without a parser."""
    return len(text) <= LONGEST_ANSWER and _number(normal_spelling(text)) is not None


def parsable_source(text: str) -> str | None:
    """The text as the parser gets it, None if it must not get it at all.

    Refused are texts that are empty, too long, nested too deeply or without balance, and whatever could mean
    something to Python: double underscores, calls of attributes, control characters, lone surrogates.
    """
    if len(text) > LONGEST_ANSWER or _FORBIDDEN.search(text):
        return None
    source = normal_spelling(text)
    if not source or not balanced_braces(source) or _nesting(source) > _DEEPEST_NESTING:
        return None
    scientific = _SCIENTIFIC.fullmatch(source)
    return rf"{scientific[1]} \times 10^{{{scientific[2]}}}" if scientific else source


def normal_spelling(text: str) -> str:
    """One spelling for texts that differ in nothing but white space, delimiters and size commands."""
    text = _DELIMITERS.sub("", strip_math_delimiters(text))
    text = _SIZE_COMMANDS.sub("", _SPACE_COMMANDS.sub(" ", _THOUSANDS.sub(",", text)))
    for pattern, replacement in _SPELLINGS:
        text = pattern.sub(replacement, text)
    words = _SPACE_BETWEEN_WORDS.sub("\x00", text.strip())
    return _FULL_STOP.sub("", "".join(words.split()).replace("\x00", " "))


def _number(text: str) -> tuple[str, str, str] | None:
    """Sign, whole part and fraction of a decimal number in one spelling, None for anything else."""
    match = _NUMBER.fullmatch(text)
    if match is None or not (match["whole"] or match["fraction"]):
        return None
    whole = match["whole"].replace(",", "").lstrip("0")
    fraction = (match["fraction"] or "").rstrip("0")
    sign = "-" if match["sign"] == "-" and (whole or fraction) else ""
    return sign, whole, fraction


def _plain_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii()


def _nesting(text: str) -> int:
    depth = deepest = 0
    for bracket in _BRACKETS.finditer(text):
        depth += 1 if bracket[0] in "([{" else -1
        deepest = max(deepest, depth)
    return deepest
