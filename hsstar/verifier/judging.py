"""From two texts to a cause: read both, compare them, and say which rule decided."""

from dataclasses import dataclass
from typing import Any, NoReturn

from hsstar.domain.verdict import Cause
from hsstar.verifier.equivalence import Algebra, Equivalence, UnparsableError
from hsstar.verifier.forms import Form, Formula, is_readable, parts_of
from hsstar.verifier.numeric import Number
from hsstar.verifier.reading import read, read_otherwise
from hsstar.verifier.spelling import LONGEST_ANSWER

_LONGEST_QUICK_ANSWER = 1_000


@dataclass(frozen=True, slots=True)
class Decision:
    """The cause of a verdict, and the rule that led to it."""

    cause: Cause
    rule: str


def judge_quickly(answer: str, reference: str) -> Decision | None:
    """Judge an answer without algebra, in a moment; return None if that is not enough."""
    if len(reference) > LONGEST_ANSWER:
        return Decision(Cause.BAD_REFERENCE, "too long to be an answer")
    if len(answer) > LONGEST_ANSWER:
        return Decision(Cause.UNPARSABLE, "too long to be an answer")
    if max(len(answer), len(reference)) > _LONGEST_QUICK_ANSWER:
        return None
    mine, theirs = read(answer), read(reference)
    if unreadable := _unreadable(mine, theirs):
        return unreadable
    equivalence = Equivalence(_NoAlgebra())
    try:
        if equivalence.holds(mine, theirs) or _holds_otherwise(equivalence, answer, reference):
            return Decision(Cause.CORRECT, equivalence.rule)
    except _AlgebraNeededError:
        return None
    if formulas(mine) or formulas(theirs):
        return None  # one of them may turn out not to be a formula at all
    return Decision(Cause.INCORRECT, equivalence.rule)


def judge(answer: str, reference: str, algebra: Algebra) -> Decision:
    """Judge an answer by all rules. There is no bound on its time and memory."""
    mine, theirs = read(answer), read(reference)
    if unreadable := _unreadable(mine, theirs):
        return unreadable
    equivalence = Equivalence(algebra)
    try:
        if equivalence.holds(mine, theirs) or _holds_otherwise(equivalence, answer, reference):
            return Decision(Cause.CORRECT, equivalence.rule)
    except UnparsableError:
        equivalence.rule = "formulas that cannot be compared"
    for form, cause in ((theirs, Cause.BAD_REFERENCE), (mine, Cause.UNPARSABLE)):
        for formula in formulas(form):
            if not algebra.can_read(formula):
                return Decision(cause, f"no formula: {formula.source}")
    return Decision(Cause.INCORRECT, equivalence.rule)


def _holds_otherwise(equivalence: Equivalence, answer: str, reference: str) -> bool:
    """Compare by the second reading of one text, where the first ones are of different kinds or numbers."""
    mine, theirs = read(answer), read(reference)
    if type(mine) is type(theirs) and not isinstance(mine, Number):
        return False
    for form, other in (
        (read_otherwise(answer, True), theirs),
        (mine, read_otherwise(reference, False)),
    ):
        if form is not None and other is not None:
            rule = equivalence.rule
            if equivalence.holds(form, other):
                return True
            equivalence.rule = rule
    return False


def formulas(form: Form) -> list[Formula]:
    """Return the formulas within a form."""
    return [part for part in parts_of(form) if isinstance(part, Formula)]


def _unreadable(answer: Form, reference: Form) -> Decision | None:
    if not is_readable(reference):
        return Decision(Cause.BAD_REFERENCE, "the reference has no reading")
    if not is_readable(answer):
        return Decision(Cause.UNPARSABLE, "the answer has no reading")
    return None


class _AlgebraNeededError(Exception):
    """The comparison has reached two formulas."""


class _NoAlgebra:
    def equal(self, *_: Any, **__: Any) -> NoReturn:
        raise _AlgebraNeededError

    equal_relations = equal_cases = can_read = equal
