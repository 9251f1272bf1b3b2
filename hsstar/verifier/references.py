r"""What kind of reference answer a text is: a value, words, none that can be read, or one that fails itself.

A reference has to be judged correct against itself, put in a box as a response has it, and against its own
canonical form: its normal spelling, and a number as `\frac{3}{4}`. One that does not would make every right
response wrong.
"""

import re
from enum import StrEnum

from hsstar.domain.answers import extract_answer
from hsstar.domain.program_tests import holds_program_tests
from hsstar.domain.verdict import Cause
from hsstar.verifier.forms import Form, Words, is_readable, source_of
from hsstar.verifier.judging import judge_quickly
from hsstar.verifier.numeric import Number
from hsstar.verifier.reading import read
from hsstar.verifier.spelling import LONGEST_ANSWER, parsable_source

_PLAIN = re.compile(r"-?\d{1,18}(?:\.\d{1,9})?", re.ASCII)


class ReferenceKind(StrEnum):
    """What the verifier makes of a reference answer."""

    VALUE = "value"
    WORDS = "words"
    """Text, compared letter by letter."""
    TESTS = "tests"
    """Tests of a program."""
    UNREADABLE = "unreadable"
    INCONSISTENT = "inconsistent"
    """Read, but not judged correct against itself or its canonical form."""

    @property
    def is_usable(self) -> bool:
        """Whether responses can be judged by it."""
        return self in (ReferenceKind.VALUE, ReferenceKind.WORDS, ReferenceKind.TESTS)


def kind_without_algebra(reference: str) -> ReferenceKind:
    """Return the kind of a reference; algebra may still not read its formulas."""
    if _PLAIN.fullmatch(reference):
        return ReferenceKind.VALUE
    if holds_program_tests(reference):
        return ReferenceKind.TESTS
    if len(reference) > LONGEST_ANSWER or not is_readable(form := read(reference)):
        return ReferenceKind.UNREADABLE
    answers = (_from_box(reference), _canonical(reference, form))
    if not all(_is_correct(answer, reference) for answer in answers):
        return ReferenceKind.INCONSISTENT
    return ReferenceKind.WORDS if isinstance(form, Words) else ReferenceKind.VALUE


def _from_box(reference: str) -> str | None:
    extracted = extract_answer(rf"\boxed{{{reference}}}")
    return None if extracted is None else extracted.text


def _canonical(reference: str, form: Form) -> str | None:
    return source_of(form) if isinstance(form, Number) else parsable_source(reference)


def _is_correct(answer: str | None, reference: str) -> bool:
    """Judge by the texts; equal formulas need no algebra, and what does is left to it."""
    if answer is None:
        return False
    if answer == reference:
        return True
    decision = judge_quickly(answer, reference)
    return decision is None or decision.cause is Cause.CORRECT
