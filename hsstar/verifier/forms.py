"""The forms of an answer that is read: a small tree, immutable and printable (`hsstar verify --explain`).

In the simple cases, texts of the same meaning give equal forms. Some forms convert into others: numbers,
quantities and matrices into formulas, tuples into vectors, ratios into quotients.
"""

import re
from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from hsstar.verifier.numeric import Number
from hsstar.verifier.units import DEGREE, PERCENT, Unit


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that only algebra can compare, in normal spelling."""

    source: str

    def __str__(self) -> str:
        return self.source


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with its unit."""

    value: "Form"
    unit: Unit

    def __str__(self) -> str:
        return f"{self.value} [{self.unit}]"


@dataclass(frozen=True, slots=True)
class Words:
    """A text answer, compared letter by letter without case, articles and punctuation."""

    letters: str

    def __str__(self) -> str:
        return f"words {self.letters!r}"


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice (A)-(J), with the text behind the letter."""

    letter: str
    content: "Form | None" = None

    def __str__(self) -> str:
        return f"choice {self.letter}" + (f" with {self.content}" if self.content else "")


@dataclass(frozen=True, slots=True)
class Sequence:
    """Several values: a tuple keeps its order; a list or a set does not."""

    kind: Literal["list", "tuple", "set"]
    items: tuple["Form", ...]

    def __str__(self) -> str:
        return f"{self.kind} of " + "; ".join(map(str, self.items)) if self.items else f"empty {self.kind}"


@dataclass(frozen=True, slots=True)
class IntervalForm:
    """The numbers between two ends; None is infinity."""

    low: "Form | None"
    high: "Form | None"
    low_closed: bool
    high_closed: bool

    def __str__(self) -> str:
        low = "-infinity" if self.low is None else str(self.low)
        high = "infinity" if self.high is None else str(self.high)
        return f"interval {'[' if self.low_closed else '('}{low}, {high}{']' if self.high_closed else ')'}"


@dataclass(frozen=True, slots=True)
class Union:
    """A union of intervals and sets, in any order."""

    parts: tuple["Form", ...]

    def __str__(self) -> str:
        return " united with ".join(map(str, self.parts))


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix, row by row."""

    rows: tuple[tuple["Form", ...], ...]

    def __str__(self) -> str:
        return "matrix " + " / ".join(", ".join(map(str, row)) for row in self.rows)


@dataclass(frozen=True, slots=True)
class Line:
    """The points `point` + `factor` · `direction` of a line; `factor` is its parameter, perhaps negative."""

    point: tuple["Scalar", ...]
    direction: tuple["Scalar", ...]
    factor: str

    def __str__(self) -> str:
        point, direction = (", ".join(map(str, vector)) for vector in (self.point, self.direction))
        return f"line ({point}) + {self.factor} ({direction})"


@dataclass(frozen=True, slots=True)
class Named:
    """A value with its name: `x=5`, `f(x)=x^2`, `x>3`."""

    name: str
    value: "Form"

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"


@dataclass(frozen=True, slots=True)
class Approximated:
    r"""A value with the number that was stated for it: `3.14\approx\pi`; both have to be right."""

    value: "Form"
    stated: "Form"

    def __str__(self) -> str:
        return f"{self.value}, about {self.stated}"


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation or inequality that names no value: `left` minus `right` is compared with zero."""

    sign: Literal["=", "<", "<="]
    left: str
    right: str

    def __str__(self) -> str:
        return f"{self.left} {self.sign} {self.right}"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of two numbers or more, in normal spelling."""

    parts: tuple[Number, ...]
    clock: bool

    def __str__(self) -> str:
        return ":".join(str(part.value) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Numeral:
    """Digits with their base."""

    digits: str
    base: int

    def value(self) -> int | None:
        """Return the number that it is, None if a digit is too large for the base."""
        try:
            return int(self.digits, self.base)
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{self.digits} in base {self.base}"


@dataclass(frozen=True, slots=True)
class Infinite:
    """Plus or minus infinity."""

    positive: bool

    def __str__(self) -> str:
        return "infinity" if self.positive else "-infinity"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A text that has no reading."""

    def __str__(self) -> str:
        return "unreadable"


_Composed = (
    Quantity | Choice | Sequence | IntervalForm | Union | Matrix | Line | Named | Approximated | Relation
)
Form = _Composed | Number | Formula | Words | Ratio | Numeral | Infinite | Unreadable

Reader = Callable[[str], Form]
"""Reads a part of a text; readers of larger texts get one."""


def is_readable(form: Form) -> bool:
    """Decide whether a form has no unreadable part; algebra may still not read its formulas."""
    return all(not isinstance(part, Unreadable) for part in parts_of(form))


def parts_of(form: Form) -> list[Form]:
    """Return a form and every form in it."""
    match form:
        case Sequence(items=children) | Union(parts=children):
            inside: tuple[Form | None, ...] = children
        case Matrix():
            inside = tuple(cell for row in form.rows for cell in row)
        case Named() | Quantity():
            inside = (form.value,)
        case Approximated():
            inside = (form.value, form.stated)
        case IntervalForm():
            inside = (form.low, form.high)
        case Choice():
            inside = (form.content,)
        case Line():
            inside = (*form.point, *form.direction)
        case Relation():
            inside = (Formula(form.left), Formula(form.right))
        case _:
            inside = ()
    return [form, *(part for child in inside if child is not None for part in parts_of(child))]


Scalar = Number | Formula


def as_relation(named: Named) -> Relation | None:
    """Return a named number or formula as an equation, None for any other named form."""
    match named.value:
        case Number() | Formula():
            return Relation("=", named.name, source_of(named.value))
        case _:
            return None


def source_of(scalar: Scalar) -> str:
    """Return a number or formula as LaTeX."""
    if isinstance(scalar, Formula):
        return scalar.source
    value = scalar.value
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def unit_as_factor(quantity: Quantity) -> Scalar | None:
    """Return the value of a quantity whose unit is a factor: percent, degrees."""
    value = quantity.value
    if quantity.unit == PERCENT:
        return scaled(value, Fraction(1, 100))
    if quantity.unit == DEGREE and isinstance(value, Number) and value.value:
        return Formula(rf"\frac{{{source_of(value)}\pi}}{{180}}")
    return None


def scaled(value: Form, factor: Fraction) -> Scalar | None:
    """Multiply a number or formula by a factor; return None for any other form."""
    match value:
        case Number():
            return Number(value.value * factor, value.decimals)
        case Formula():
            return Formula(rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}({value.source})")
        case _:
            return None


def in_radians(angle: Quantity) -> Form:
    """Return the value of an angle, written in degrees or radians, in radians."""
    if angle.unit != DEGREE or not isinstance(angle.value, Number | Formula):
        return angle.value
    return Formula(rf"\frac{{({source_of(angle.value)})\pi}}{{180}}")


def unit_as_letters(quantity: Quantity) -> Formula | None:
    """Return the formula that a quantity may be if its unit is bare letters: `5 m`."""
    letters = re.fullmatch(r"[A-Za-z]{1,3}(?:[/^{][/^{}A-Za-z\d-]*)?", quantity.unit.written)
    if letters is None or not isinstance(quantity.value, Number):
        return None
    return Formula(f"{source_of(quantity.value)}{quantity.unit.written}")


def as_matrix_formulas(form: Form) -> list[Formula]:
    """Return the formulas of matrices that a form may be read as."""
    match form:
        case Formula(source=source):
            return [form] if r"\begin{" in source else []
        case Matrix(rows=rows):
            shapes: list[Items[Items[Form]]] = [rows]
        case Sequence(items=items):
            shapes = [[[item] for item in items], [items]]
        case _:
            return []
    return [formula for rows in shapes if (formula := _matrix_formula(rows))]


def is_identity(matrix: Matrix, source: str) -> bool:
    r"""Decide whether a matrix is the identity that `I` or `I_{2}` names."""
    name = re.fullmatch(r"[IE](?:_\{(\d+)\})?", source)
    size = len(matrix.rows)
    square = all(len(row) == size for row in matrix.rows)
    if name is None or not square or (name[1] and int(name[1]) != size):
        return False
    return all(
        cell == Number.of(int(i == j)) for i, row in enumerate(matrix.rows) for j, cell in enumerate(row)
    )


Case = tuple[Scalar, str, IntervalForm]
"""A value of a function by cases, its variable, and where the variable has that value."""


def as_cases(rows: Items[Form]) -> list[Case]:
    """Return rows as the cases of a function of one variable; nothing if they are anything else."""
    cases = list[Case]()
    for row in rows:
        match row:
            case Sequence(items=(Number() | Formula() as value, Named(name, IntervalForm() as where))):
                cases.append((value, name, where))
    return cases if len(cases) == len(rows) and len({name for _, name, _ in cases}) == 1 else []


def _matrix_formula(rows: Items[Items[Form]]) -> Formula | None:
    cells = [[source_of(cell) for cell in row if isinstance(cell, Number | Formula)] for row in rows]
    if any(len(mine) < len(row) for mine, row in zip(cells, rows, strict=True)):
        return None
    body = r"\\".join("&".join(row) for row in cells)
    return Formula(rf"\begin{{pmatrix}}{body}\end{{pmatrix}}")


def vector(form: Form) -> Items[Form]:
    """Return the elements of a tuple, or of a matrix of one row or one column."""
    match form:
        case Sequence():
            return form.items
        case Matrix(rows=(row,)):
            return row
        case Matrix():
            return [row[0] for row in form.rows] if len(form.rows[0]) == 1 else []
        case _:
            return []


def quotient(form: Form) -> Fraction | None:
    """Return the value of a number or of a ratio of two numbers, None for any other form."""
    match form:
        case Number():
            return form.value
        case Ratio(parts=(first, second)) if second.value:
            return first.value / second.value
        case _:
            return None
