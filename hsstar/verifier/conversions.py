"""Convert forms: numbers, quantities and matrices to formulas, tuples to vectors, ratios to quotients."""

import re
from collections.abc import Sequence as Items
from fractions import Fraction

from hsstar.verifier.forms import (
    Form,
    Formula,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Relation,
    Sequence,
)
from hsstar.verifier.numeric import Number
from hsstar.verifier.units import DEGREE, PERCENT

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
    letters = re.fullmatch(r"[A-Za-z]{1,3}(?:[/^{}A-Za-z\d-]*)", quantity.unit.written)
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
