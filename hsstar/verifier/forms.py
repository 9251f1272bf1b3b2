"""The forms of an answer that is read: a small tree.

Every form is immutable and prints itself for people (`hsstar verify --explain`). In the simple cases, texts
of the same meaning give equal forms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hsstar.verifier.numeric import Number
from hsstar.verifier.units import Unit


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
class Named:
    """A value with its name: `x=5`, `f(x)=x^2`, `x>3`."""

    name: str
    value: "Form"

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"


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


Form = (
    Number
    | Formula
    | Quantity
    | Words
    | Choice
    | Sequence
    | IntervalForm
    | Union
    | Matrix
    | Named
    | Relation
    | Ratio
    | Numeral
    | Infinite
    | Unreadable
)

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
        case IntervalForm():
            inside = (form.low, form.high)
        case Choice():
            inside = (form.content,)
        case Relation():
            inside = (Formula(form.left), Formula(form.right))
        case _:
            inside = ()
    return [form, *(part for child in inside if child is not None for part in parts_of(child))]
