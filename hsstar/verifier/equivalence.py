"""The rules that decide whether two forms mean the same; docs/verifier.md states them for users."""

import re
from collections.abc import Sequence as Items
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from hsstar.verifier.forms import (
    Approximated,
    Case,
    Choice,
    Form,
    Formula,
    IntervalForm,
    Line,
    Matrix,
    Named,
    Numeral,
    Quantity,
    Ratio,
    Relation,
    Scalar,
    Sequence,
    Union,
    Words,
    as_cases,
    as_matrix_formulas,
    as_relation,
    in_radians,
    is_identity,
    quotient,
    scaled,
    unit_as_factor,
    unit_as_letters,
    vector,
)
from hsstar.verifier.lines import points_of, same_line, with_parameter_of
from hsstar.verifier.measures import half_of_day
from hsstar.verifier.names import (
    argument_of,
    has_variable,
    is_name,
    may_be_curve,
    renamed,
    same_name,
)
from hsstar.verifier.numeric import Number, numbers_equal
from hsstar.verifier.relations import as_part
from hsstar.verifier.units import DEGREE, PERCENT, RADIAN


class UnparsableError(Exception):
    """A formula that algebra cannot read."""


class Algebra(Protocol):
    """Compare formulas. Comparing one that cannot be read raises `UnparsableError`."""

    def equal(self, answer: Scalar, reference: Scalar) -> bool:
        """Decide whether two formulas are equal, or only close if one of them has decimals."""

    def equal_relations(self, answer: Relation, reference: Relation) -> bool:
        """Decide whether two equations or inequalities with the same sign say the same."""

    def equal_cases(self, cases: Items[Case], formula: Formula) -> bool:
        """Decide whether the values of cases, which cover the real numbers, are those of a formula."""

    def can_read(self, formula: Formula) -> bool:
        """Decide whether a formula can be read."""


@dataclass(slots=True)
class Equivalence:
    """One comparison of two forms."""

    algebra: Algebra
    rule: str = ""
    """The rule that decided last, for people."""
    depth: int = 0
    """How many collections surround the forms: {1} within a set is not 1."""

    def holds(self, answer: Form, reference: Form) -> bool:
        """Decide whether the answer means the same as the reference."""
        if answer == reference:
            return self._by("equal forms", True)
        if isinstance(answer, Choice) or isinstance(reference, Choice):
            return self._choices(answer, reference)
        if isinstance(reference, Approximated):
            return self.holds(answer, reference.value)
        if isinstance(answer, Approximated):
            return self.holds(answer.value, answer.stated) and self.holds(answer.value, reference)
        if self._agree(answer, reference):
            return self._by("alternatives that agree", True)
        if isinstance(answer, Named) or isinstance(reference, Named):
            return self._named(answer, reference)
        if isinstance(answer, Relation) or isinstance(reference, Relation):
            return self._relations(answer, reference)
        if isinstance(answer, Quantity) or isinstance(reference, Quantity):
            return self._quantities(answer, reference)
        if isinstance(answer, Line) or isinstance(reference, Line):
            return self._lines(answer, reference)
        match answer, reference:
            case Number(), Number():
                return self._by("numbers", numbers_equal(answer, reference))
            case (Number() | Formula(), Number() | Formula()):
                return self._by("algebra", self.algebra.equal(answer, reference))
            case Matrix(), Matrix():
                return self._matrices(answer, reference)
            case (Matrix(), Sequence(kind="tuple")) | (Sequence(kind="tuple"), Matrix()):
                return self._ordered(vector(answer), vector(reference))
            case (Formula(), Matrix() | Sequence(kind="tuple")) | (
                Matrix() | Sequence(kind="tuple"),
                Formula(),
            ):
                return self._matrix_formulas(answer, reference)
            case Ratio(), Ratio():
                return self._by("ratios", _ratios_equal(answer, reference))
            case Numeral(), Numeral():
                return self._by("digits in bases", answer.value() == reference.value() is not None)
            case Numeral(), Number(value=value) if answer.value() == value:
                return self._by("digits in a base", True)
            case (Sequence() | IntervalForm() | Union(), Sequence() | IntervalForm() | Union()):
                return self._collections(answer, reference)
            case _:
                return self._different_kinds(answer, reference)

    def _different_kinds(self, answer: Form, reference: Form) -> bool:
        """Compare forms of different kinds, which mean the same only by a convention."""
        for form, other in ((answer, reference), (reference, answer)):
            match form, other:
                case Ratio(), Number():
                    return self._by("ratio as a fraction", quotient(form) == quotient(other))
                case Numeral(digits=digits), Number(value=value):
                    same = digits.isdecimal() and int(digits) == value and form.value() is not None
                    return self._by("digits without their base", same)
                case Numeral(digits=digits), Formula(source=source) if not digits.isdecimal():
                    return self._by("digits without their base", digits == source)
                case Sequence(kind="list", items=items), Formula(source=letters) if items and all(
                    isinstance(item, Choice) for item in items
                ):
                    return self._by("letters of choices", _letters_of_choices(items) == sorted(letters))
                case Sequence(kind="list", items=rows), Formula() if cases := as_cases(rows):
                    return self._by("cases", self.algebra.equal_cases(cases, other))
                case Sequence(kind="set" | "list", items=(only,)), _ if not self.depth:
                    return self._either_way(only, other, form is answer)
        return self._by("different kinds of answer", False)

    def _by(self, rule: str, equal: bool) -> bool:
        self.rule = rule
        return equal

    def _agree(self, answer: Form, reference: Form) -> bool:
        """Decide whether an answer of alternatives, `1/2 or 0.5`, says one value in several ways."""
        if not isinstance(answer, Sequence) or answer.kind != "set" or len(answer.items) < 2:
            return False
        is_value = isinstance(reference, Number | Formula | Quantity)
        return is_value and all(self.holds(item, reference) for item in answer.items)

    def _either_way(self, part: Form, other: Form, part_is_answer: bool) -> bool:
        return self.holds(part, other) if part_is_answer else self.holds(other, part)

    def _choices(self, answer: Form, reference: Form) -> bool:
        match answer, reference:
            case Choice(), Choice():
                return self._by("letters of choices", answer.letter == reference.letter)
            case (Choice() as choice, other) | (other, Choice() as choice):
                if choice.content is not None:
                    return self._either_way(choice.content, other, choice is answer)
                if _letter_of(other) == choice.letter:
                    return self._by("letters of choices", True)
                if isinstance(other, Formula):  # the letter may be a variable after all
                    return self._either_way(Formula(choice.letter), other, choice is answer)
        return self._by("a choice against another kind of answer", False)

    def _named(self, answer: Form, reference: Form) -> bool:
        if isinstance(answer, Named) and isinstance(reference, Named):
            return self._two_named(answer, reference)
        for named, other in ((answer, reference), (reference, answer)):
            if isinstance(named, Named) and isinstance(other, Relation) and other.sign == "=":
                relation = as_relation(named)
                if relation is not None:
                    return self._either_way(relation, other, named is answer)
                return self._by("an equation against another kind of answer", False)
        if isinstance(reference, Named) and may_be_curve(reference.name):
            return self._by("an equation against another kind of answer", False)
        return self.holds(_value(answer), _value(reference))

    def _two_named(self, answer: Named, reference: Named) -> bool:
        if same_name(answer.name, reference.name):
            return self.holds(answer.value, reference.value)
        mine, theirs = argument_of(answer.name), argument_of(reference.name)
        if mine and theirs and mine[0] == theirs[0] and isinstance(answer.value, Formula):
            source = renamed(answer.value.source, mine[1], theirs[1])
            if source is not None:
                return self.holds(Formula(source), reference.value)
        left, right = as_relation(answer), as_relation(reference)
        if left is None or right is None or not _is_equation(answer) or not _is_equation(reference):
            return self._by("values of different names", False)
        return self._by("equations", self.algebra.equal_relations(left, right))

    def _relations(self, answer: Form, reference: Form) -> bool:
        if isinstance(answer, Relation) and isinstance(reference, Relation):
            if answer.sign != reference.sign:
                return self._by("different relation signs", False)
            return self._by("equations", self.algebra.equal_relations(answer, reference))
        return self._by("an equation against another kind of answer", False)

    def _quantities(self, answer: Form, reference: Form) -> bool:
        if isinstance(answer, Quantity) and isinstance(reference, Quantity):
            return self._two_quantities(answer, reference)
        match answer, reference:
            case (Quantity() as quantity, other) | (other, Quantity() as quantity):
                if isinstance(other, Number | Formula | Ratio | Sequence | IntervalForm):
                    return self._without_unit(quantity, other, quantity is answer)
        return self._by("a quantity against another kind of answer", False)

    def _without_unit(self, quantity: Quantity, other: Form, quantity_is_answer: bool) -> bool:
        if self._either_way(quantity.value, other, quantity_is_answer):
            return self._by(f"{self.rule}, one unit missing", True)
        if isinstance(other, Formula) and (product := unit_as_letters(quantity)):
            return self._by(
                "letters that may be a unit", self._either_way(product, other, quantity_is_answer)
            )
        if isinstance(other, Ratio) and (time := half_of_day(other)):
            return self._by("times of day", self._either_way(quantity, time, quantity_is_answer))
        if quantity.unit == PERCENT and not quantity_is_answer:
            share = scaled(other, Fraction(100))
            return share is not None and self._by("unit written out", self.holds(share, quantity.value))
        factor = unit_as_factor(quantity)
        if factor is None or not (isinstance(other, Number) or quantity.unit == DEGREE):
            return False
        return self._by("unit written out", self._either_way(factor, other, quantity_is_answer))

    def _two_quantities(self, answer: Quantity, reference: Quantity) -> bool:
        mine, theirs = answer.unit, reference.unit
        if {mine, theirs} == {DEGREE, RADIAN}:
            return self._by("converted units", self.holds(in_radians(answer), in_radians(reference)))
        if mine.dimensions != theirs.dimensions:
            shorter, longer = sorted((mine.dimensions[0][0], theirs.dimensions[0][0]), key=len)
            if not (mine.counted and theirs.counted and re.search(rf"\b{re.escape(shorter)}\b", longer)):
                return self._by("different units", False)
            return self.holds(answer.value, reference.value)
        if mine.factor == theirs.factor:
            return self.holds(answer.value, reference.value)
        value = scaled(answer.value, mine.factor / theirs.factor)  # the reference keeps its precision
        if value is None:
            return self._by("different units", False)
        return self._by("converted units", self.holds(value, reference.value))

    def _matrices(self, answer: Matrix, reference: Matrix) -> bool:
        mine, theirs = answer.rows, reference.rows
        if len(mine) != len(theirs) or len(mine[0]) != len(theirs[0]):
            return self._by("shapes of matrices", False)
        return self._ordered([cell for row in mine for cell in row], [cell for row in theirs for cell in row])

    def _matrix_formulas(self, answer: Form, reference: Form) -> bool:
        for matrix, other in ((answer, reference), (reference, answer)):
            if (
                isinstance(matrix, Matrix)
                and isinstance(other, Formula)
                and is_identity(matrix, other.source)
            ):
                return self._by("the identity matrix", True)
        for mine in as_matrix_formulas(answer):
            for theirs in as_matrix_formulas(reference):
                if self.algebra.equal(mine, theirs):
                    return self._by("algebra", True)
        return self._by("a matrix against another kind of answer", False)

    def _lines(self, answer: Form, reference: Form) -> bool:
        if isinstance(answer, Line) and isinstance(reference, Line) and same_line(answer, reference):
            return self._by("lines", True)
        mine, theirs = (points_of(form) if isinstance(form, Line) else form for form in (answer, reference))
        return self.holds(mine, theirs)

    def _collections(self, answer: Form, reference: Form) -> bool:
        if isinstance(answer, Sequence) and isinstance(reference, Sequence):
            return self._sequences(answer, reference)
        match as_part(answer), as_part(reference):  # a pair beside an interval is one as well
            case IntervalForm() as mine, IntervalForm() as theirs:
                return self._intervals(mine, theirs)
            case (
                Union(parts=mine) | Sequence(kind="list", items=mine),
                Union(parts=theirs) | Sequence(kind="list", items=theirs),
            ):
                return self._any_order(mine, theirs)
            case _:
                return self._by("different kinds of answer", False)

    def _intervals(self, answer: IntervalForm, reference: IntervalForm) -> bool:
        if (answer.low_closed, answer.high_closed) != (reference.low_closed, reference.high_closed):
            return self._by("open and closed ends", False)
        for mine, theirs in ((answer.low, reference.low), (answer.high, reference.high)):
            if (mine is None) != (theirs is None):
                return self._by("ends of intervals", False)
            if mine is not None and theirs is not None and not self.holds(mine, theirs):
                return self._by("ends of intervals", False)
        return self._by("intervals", True)

    def _sequences(self, answer: Sequence, reference: Sequence) -> bool:
        mine, theirs = _by_name(answer.items), _by_name(reference.items)
        if mine and theirs and mine.keys() == theirs.keys():
            equal = self._ordered([mine[name] for name in theirs], list(theirs.values()))
            return self._by("elements by name", equal)
        kinds = {answer.kind, reference.kind}
        if kinds == {"tuple", "set"}:
            for form, other in ((answer, reference), (reference, answer)):
                if form.kind == "set" and len(form.items) == 1:
                    return self._either_way(form.items[0], other, form is answer)
            return self._by("a tuple against a set", False)
        if kinds == {"set"}:
            return self._any_order(self._different(answer.items), self._different(reference.items))
        if "tuple" not in kinds:
            return self._any_order(answer.items, reference.items)
        return self._ordered(_in_order_of_names(answer.items), _in_order_of_names(reference.items))

    def _ordered(self, answer: Items[Form], reference: Items[Form]) -> bool:
        equal = len(answer) == len(reference) and all(map(self.holds, answer, reference))
        if not equal and (renamed := with_parameter_of(answer, reference)):
            equal = all(map(self.holds, renamed, reference))
        return self._by("elements in order", equal)

    def _any_order(self, answer: Items[Form], reference: Items[Form]) -> bool:
        if len(answer) != len(reference):
            return self._by("number of elements", False)
        self.depth += 1
        remaining = list(answer)
        for wanted in reference:
            equal = next((item for item in remaining if self.holds(item, wanted)), None)
            if equal is None:
                break
            remaining.remove(equal)
        self.depth -= 1
        return self._by("elements in any order", not remaining)

    def _different(self, items: Items[Form]) -> list[Form]:
        different = list[Form]()
        for item in items:
            if not any(self.holds(item, known) for known in different):
                different.append(item)
        return different


def _letter_of(form: Form) -> str:
    match form:
        case Formula():
            return form.source.upper()
        case Words():
            return form.letters.upper()
        case _:
            return ""


def _value(form: Form) -> Form:
    return form.value if isinstance(form, Named) else form


def _is_equation(named: Named) -> bool:
    """Decide whether a named value is an equation between variables."""
    value = named.value
    return not is_name(named.name) or (isinstance(value, Formula) and has_variable(value.source))


def _letters_of_choices(items: Items[Form]) -> list[str]:
    return sorted(item.letter for item in items if isinstance(item, Choice))


def _ratios_equal(answer: Ratio, reference: Ratio) -> bool:
    mine, theirs = ([part.value for part in ratio.parts] for ratio in (answer, reference))
    if mine == theirs:
        return True
    if len(mine) != len(theirs) or (answer.clock and reference.clock):
        return False
    return all(one * theirs[0] == other * mine[0] for one, other in zip(mine, theirs, strict=True))


def _by_name(items: Items[Form]) -> dict[str, Form]:
    """Return the values by name, nothing unless each item has its own."""
    named = {item.name: item.value for item in items if isinstance(item, Named)}
    return named if len(named) == len(items) else {}


def _in_order_of_names(items: Items[Form]) -> Items[Form]:
    """Sort `y=2, x=1` by name, so that it compares with a tuple."""
    named = [item for item in items if isinstance(item, Named)]
    if len(named) < len(items):
        return items
    return [item.value for item in sorted(named, key=lambda item: item.name)]
