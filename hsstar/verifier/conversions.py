"""What one form is as another one: formulas of numbers, of quantities, of matrices."""

import re
from collections.abc import Sequence as Items
from fractions import Fraction

from hsstar.verifier.forms import (
    Expression,
    Form,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Relation,
    Sequence,
)
from hsstar.verifier.numeric import Number
from hsstar.verifier.units import DEGREE, PERCENT

Scalar = Number | Expression


def as_relation(named: Named) -> Relation | None:
    """A named number or formula as the equation that it is, None for a name of anything else."""
    match named.value:
        case Number() | Expression():
            return Relation("=", named.name, source_of(named.value))
        case _:
            return None


def source_of(scalar: Scalar) -> str:
    """A number or formula as LaTeX."""
    if isinstance(scalar, Expression):
        return scalar.source
    value = scalar.value
    return str(value) if value.denominator == 1 else rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


def unit_as_factor(quantity: Quantity) -> Scalar | None:
    """The value that a unit stands for where it is a factor: percent, degrees."""
    value = quantity.value
    if quantity.unit == PERCENT:
        return scaled(value, Fraction(1, 100))
    if quantity.unit == DEGREE and isinstance(value, Number) and value.value:
        return Expression(rf"\frac{{{source_of(value)}\pi}}{{180}}")
    return None


def scaled(value: Form, factor: Fraction) -> Scalar | None:
    """A number or formula times a factor, None for anything else."""
    match value:
        case Number():
            return Number(value.value * factor, value.decimals)
        case Expression():
            return Expression(rf"\frac{{{factor.numerator}}}{{{factor.denominator}}}({value.source})")
        case _:
            return None


def in_radians(angle: Quantity) -> Form:
    """The value of an angle that is given in degrees or radians."""
    if angle.unit != DEGREE or not isinstance(angle.value, Number | Expression):
        return angle.value
    return Expression(rf"\frac{{({source_of(angle.value)})\pi}}{{180}}")


def unit_as_letters(quantity: Quantity) -> Expression | None:
    """The formula that a quantity is whose unit is written in bare letters: `5 m`."""
    letters = re.fullmatch(r"[A-Za-z]{1,3}(?:[/^{}A-Za-z\d-]*)", quantity.unit.written)
    if letters is None or not isinstance(quantity.value, Number):
        return None
    return Expression(f"{source_of(quantity.value)}{quantity.unit.written}")


def as_matrix_formulas(form: Form) -> list[Expression]:
    """The formulas of matrices that a form may be read as."""
    match form:
        case Expression(source=source):
            return [form] if r"\begin{" in source else []
        case Matrix(rows=rows):
            shapes: list[Items[Items[Form]]] = [rows]
        case Sequence(items=items):
            shapes = [[[item] for item in items], [items]]
        case _:
            return []
    return [formula for rows in shapes if (formula := _matrix_formula(rows))]


def _matrix_formula(rows: Items[Items[Form]]) -> Expression | None:
    cells = [[source_of(cell) for cell in row if isinstance(cell, Number | Expression)] for row in rows]
    if any(len(mine) < len(row) for mine, row in zip(cells, rows, strict=True)):
        return None
    body = r"\\".join("&".join(row) for row in cells)
    return Expression(rf"\begin{{pmatrix}}{body}\end{{pmatrix}}")


def vector(form: Form) -> Items[Form]:
    """The elements of a tuple, or of a matrix that is a single row or column."""
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
    """The value of a number or of a ratio of two numbers, None for anything else."""
    match form:
        case Number():
            return form.value
        case Ratio(parts=(first, second)) if second.value:
            return first.value / second.value
        case _:
            return None
