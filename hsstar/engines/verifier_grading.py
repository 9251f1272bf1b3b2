"""Comparing answers as mathematics, by Math-Verify. Only the checking processes import this."""

import logging
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

from hsstar.domain.verdict import Cause
from hsstar.engines.verifier_rules import parsable_source

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that we watch the time ourselves

_BOX_FIRST = LatexExtractionConfig(boxed_match_priority=0)


def compare(answer: str, reference: str) -> Cause:
    """Whether an answer is equivalent to the reference answer, or which of them cannot be read."""
    expected = parse_answer(reference)
    if not expected:
        return Cause.BAD_REFERENCE
    found = parse_answer(answer)
    if not found:
        return Cause.UNPARSABLE
    equivalent = verify(list(expected), list(found), timeout_seconds=None)
    return Cause.CORRECT if equivalent else Cause.INCORRECT


@lru_cache(maxsize=512)
def parse_answer(text: str) -> tuple[Any, ...]:
    """The sympy expressions that an answer stands for; empty if it cannot be read as a whole.

    The answer is put into a box and only the box is read: left to itself, Math-Verify goes on looking for
    fractions and numbers inside a text that it cannot parse.
    """
    source = parsable_source(text)
    if source is None:
        return ()
    found = parse(f"\\boxed{{{source}}}", [_BOX_FIRST], extraction_mode="first_match", parsing_timeout=None)
    return tuple(expression for expression in found if not isinstance(expression, str))
