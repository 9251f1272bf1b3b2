"""From two texts to a cause: reading, comparing, and saying why."""

from dataclasses import dataclass
from typing import NoReturn

from hsstar.domain.verdict import Cause
from hsstar.verifier.conversions import Scalar
from hsstar.verifier.equivalence import Algebra, Equivalence, UnparsableError
from hsstar.verifier.forms import Expression, Form, Relation, is_readable, parts_of
from hsstar.verifier.reading import read
from hsstar.verifier.spelling import LONGEST_ANSWER

_LONGEST_QUICK_ANSWER = 1_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The cause of a verdict, and the rule that led to it."""

    cause: Cause
    rule: str


def judge_quickly(answer: str, reference: str) -> Finding | None:
    """What can be found without algebra and in no time, None if that is not enough."""
    if len(reference) > LONGEST_ANSWER:
        return Finding(Cause.BAD_REFERENCE, "too long to be an answer")
    if len(answer) > LONGEST_ANSWER:
        return Finding(Cause.UNPARSABLE, "too long to be an answer")
    if max(len(answer), len(reference)) > _LONGEST_QUICK_ANSWER:
        return None
    given, wanted = read(answer), read(reference)
    if unreadable := _unreadable(given, wanted):
        return unreadable
    equivalence = Equivalence(_NoAlgebra())
    try:
        equal = equivalence.holds(given, wanted)
    except _AlgebraNeededError:
        return None
    if equal:
        return Finding(Cause.CORRECT, equivalence.rule)
    if formulas(given) or formulas(wanted):
        return None  # one of them may turn out not to be a formula at all
    return Finding(Cause.INCORRECT, equivalence.rule)


def judge(answer: str, reference: str, algebra: Algebra) -> Finding:
    """What is found with everything there is. May take for ever, and any amount of memory."""
    given, wanted = read(answer), read(reference)
    if unreadable := _unreadable(given, wanted):
        return unreadable
    equivalence = Equivalence(algebra)
    try:
        if equivalence.holds(given, wanted):
            return Finding(Cause.CORRECT, equivalence.rule)
    except UnparsableError:
        equivalence.rule = "formulas that cannot be compared"
    for form, cause in ((wanted, Cause.BAD_REFERENCE), (given, Cause.UNPARSABLE)):
        for formula in formulas(form):
            if not algebra.can_read(formula):
                return Finding(cause, f"no formula: {formula.source}")
    return Finding(Cause.INCORRECT, equivalence.rule)


def can_read(text: str, algebra: Algebra) -> bool:
    """Whether a reference answer can be read, every formula of it included. May take for ever."""
    form = read(text)
    return is_readable(form) and all(map(algebra.can_read, formulas(form)))


def formulas(form: Form) -> list[Expression]:
    """The formulas within a form."""
    return [part for part in parts_of(form) if isinstance(part, Expression)]


def _unreadable(answer: Form, reference: Form) -> Finding | None:
    if not is_readable(reference):
        return Finding(Cause.BAD_REFERENCE, "the reference has no reading")
    if not is_readable(answer):
        return Finding(Cause.UNPARSABLE, "the answer has no reading")
    return None


class _AlgebraNeededError(Exception):
    """A comparison has come upon two formulas."""


class _NoAlgebra:
    def equal(self, answer: Scalar, reference: Scalar) -> NoReturn:
        raise _AlgebraNeededError

    def equal_relations(self, answer: Relation, reference: Relation) -> NoReturn:
        raise _AlgebraNeededError

    def can_read(self, formula: Expression) -> NoReturn:
        raise _AlgebraNeededError
