"""Compare formulas with Math-Verify's parser and sympy. Only the checking processes import this module."""

import logging
import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from math_verify import verify

from hsstar.verifier.assumptions import (
    equal_for_integers,
    equal_for_reals,
    has_symbolic_bounds,
    renamings,
    without_nonzero_factors,
)
from hsstar.verifier.dialect import parser_dialect
from hsstar.verifier.equivalence import UnparsableError
from hsstar.verifier.evaluation import (
    BINDING,
    EXACT,
    POINTS_NEEDED,
    Point,
    near,
    points,
    surely_equal,
    value,
    values,
)
from hsstar.verifier.forms import Case, Formula, IntervalForm, Relation, Scalar
from hsstar.verifier.intervals import REALS, united
from hsstar.verifier.latex import parse_latex
from hsstar.verifier.magnitudes import magnitude, may_be_enormous
from hsstar.verifier.numeric import Number, is_close

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about time limits, which the pool keeps

_DECIMAL = re.compile(r"\d\.\d|(?<!\d)\.\d")


class SympyAlgebra:
    """Compare formulas by value (contract `equivalence.Algebra`), by Math-Verify if they have none."""

    def equal(self, answer: Scalar, reference: Scalar) -> bool:
        """Decide whether two formulas are equal."""
        mine, theirs = _parsed(answer), _parsed(reference)
        exact = not (_has_decimals(answer) or _has_decimals(reference))
        if mine == theirs or _differ_in_bound_variables(mine, theirs):
            return True
        if _is_matrix(mine) or _is_matrix(theirs):
            return _matrices_equal(mine, theirs, exact)
        if not (_is_scalar(mine) and _is_scalar(theirs)):
            return bool(verify(theirs, mine, timeout_seconds=None))
        if not mine.free_symbols and not theirs.free_symbols:
            return _constants_equal(mine, theirs, answer, reference, exact)
        equal = [_formulas_equal(renamed, theirs, exact) for renamed in renamings(mine, theirs)]
        return any(equal) or (equal == [None] and bool(verify(theirs, mine, timeout_seconds=None)))

    def equal_relations(self, answer: Relation, reference: Relation) -> bool:
        """Decide whether two relations of the same sign say the same: their differences are proportional.

        One of two equations may also be `y = …`, which solves the other, linear in y.
        """
        mine, theirs = _difference(answer), _difference(reference)
        if mine == theirs:
            return True
        exact = not any(map(_DECIMAL.search, (answer.left, answer.right, reference.left, reference.right)))
        if _are_proportional(mine, theirs, exact, either_sign=answer.sign == "="):
            return True
        if answer.sign != "=":
            return False
        if _solves(answer, theirs) or _solves(reference, mine):
            return True
        left, right = without_nonzero_factors(mine), without_nonzero_factors(theirs)
        if left is mine and right is theirs:
            return False
        return (
            _are_proportional(left, right, exact, True) or _solves(answer, right) or _solves(reference, left)
        )

    def equal_cases(self, cases: Sequence[Case], formula: Formula) -> bool:
        """Decide whether the values of cases, which cover the real numbers, are those of a formula."""
        if united(where for _, _, where in cases) != REALS:
            return False
        theirs = _parse(formula.source)
        variable = sympy.Symbol(cases[0][1], real=True)
        if not _is_scalar(theirs) or not theirs.free_symbols <= {variable}:
            return False
        exact = not any(_has_decimals(scalar) for scalar in (formula, *(value for value, _, _ in cases)))
        return all(
            _agrees_within(_parsed(scalar), theirs, variable, where, exact) for scalar, _, where in cases
        )

    def can_read(self, formula: Formula) -> bool:
        """Decide whether a formula can be read."""
        try:
            _parse(formula.source)
        except UnparsableError:
            return False
        return True


def _parsed(scalar: Scalar) -> Any:
    if isinstance(scalar, Number):
        return sympy.Rational(scalar.value.numerator, scalar.value.denominator)
    return _parse(scalar.source)


@lru_cache(maxsize=2_048)
def _parse(source: str) -> Any:
    """Return the sympy object of a formula; raise UnparsableError if it cannot be parsed."""
    parsed = parse_latex(parser_dialect(source))
    if parsed is None or isinstance(parsed, str):
        raise UnparsableError(source)
    if not (_is_scalar(parsed) or _is_matrix(parsed)):
        return parsed
    imaginary = {symbol: sympy.I for symbol in parsed.free_symbols if symbol.name == "i"}
    return parsed.subs(imaginary) if imaginary else parsed


def _difference(relation: Relation) -> Any:
    left, right = _parse(relation.left), _parse(relation.right)
    if not (_is_scalar(left) and _is_scalar(right)):
        raise UnparsableError(f"{relation.left}{relation.sign}{relation.right}")
    return left - right


def _are_proportional(mine: Any, theirs: Any, exact: bool, either_sign: bool) -> bool:
    """Decide whether one formula is a multiple of another, not zero, and positive unless `either_sign`."""
    ratios = values(sympy.Mul(mine, sympy.Pow(theirs, -1, evaluate=False), evaluate=False), exact)
    if len(ratios) < POINTS_NEEDED or not ratios[0].size():
        return False
    if not either_sign and (ratios[0].real <= 0 or ratios[0].imaginary):
        return False
    return all(near(other, ratios[0], exact) for other in ratios[1:])


def _solves(relation: Relation, difference: Any) -> bool:
    name, solution = _parse(relation.left), _parse(relation.right)
    if not name.is_Symbol or name in solution.free_symbols or name not in difference.free_symbols:
        return False
    numerator = sympy.expand(sympy.fraction(sympy.together(difference))[0])
    factor = sympy.expand(numerator.diff(name))
    rest = sympy.expand(numerator - factor * name)
    if not factor or name in factor.free_symbols | rest.free_symbols:
        return False  # not linear: an absolute value, a floor, a power
    if factor.free_symbols and sympy.gcd(factor, rest).free_symbols:
        return False  # where both vanish, every value is a solution: xy = x
    remainder = values(difference.subs(name, solution), exact=True)
    return len(remainder) >= POINTS_NEEDED and all(left.size() <= EXACT for left in remainder)


def _is_scalar(parsed: Any) -> bool:
    return isinstance(parsed, sympy.Expr) and not isinstance(parsed, sympy.MatrixExpr)


def _differ_in_bound_variables(mine: Any, theirs: Any) -> bool:
    scalar = _is_scalar(mine) and _is_scalar(theirs)
    return scalar and mine.has(*BINDING) and bool(mine.as_dummy() == theirs.as_dummy())


def _is_matrix(parsed: Any) -> bool:
    return isinstance(parsed, sympy.MatrixBase | sympy.MatrixExpr)


def _matrices_equal(mine: Any, theirs: Any, exact: bool) -> bool:
    left, right = _explicit(mine), _explicit(theirs)
    if not (_is_matrix(left) and _is_matrix(right)) or left.shape != right.shape:
        return False
    return all(_formulas_equal(*entries, exact) is True for entries in zip(left, right, strict=True))


def _explicit(parsed: Any) -> Any:
    try:
        matrix = parsed.doit()
        return matrix.as_explicit() if isinstance(matrix, sympy.MatrixExpr) else matrix
    except (ValueError, TypeError, AttributeError, NotImplementedError, sympy.ShapeError):
        return None


def _has_decimals(scalar: Scalar) -> bool:
    return not scalar.exact if isinstance(scalar, Number) else bool(_DECIMAL.search(scalar.source))


def _constants_equal(mine: Any, theirs: Any, answer: Scalar, reference: Scalar, exact: bool) -> bool:
    if may_be_enormous(mine) or may_be_enormous(theirs):
        sizes = magnitude(mine), magnitude(theirs)
        if None not in sizes and sizes[0] != sizes[1]:
            return False
    left, right = value(mine, {}), value(theirs, {})
    if left is None or right is None:
        return bool(verify(theirs, mine, timeout_seconds=None))
    if exact:
        if near(left, right, True):
            return surely_equal(mine, theirs, {}, left.size())
        return equal_for_reals(mine, theirs)
    if near(left, right, True):
        return True
    if left.imaginary or right.imaginary:
        return near(left, right, False)
    number = (
        reference
        if isinstance(reference, Number)
        else Number(right.real, 0 if _has_decimals(reference) else None)
    )
    endless = (left.real * 10**12).denominator > 1
    return is_close(left.real, not _has_decimals(answer), endless, number)


def _formulas_equal(mine: Any, theirs: Any, exact: bool) -> bool | None:
    """Decide whether two formulas with variables are equal, perhaps under an assumption; None if unclear."""
    if not exact:
        return _agree_at_points(_with_fractions(mine), _with_fractions(theirs), exact)
    if has_symbolic_bounds(mine) or has_symbolic_bounds(theirs):
        return equal_for_integers(mine, theirs)
    agree = _agree_at_points(mine, theirs, exact)
    return agree or equal_for_integers(mine, theirs) or equal_for_reals(mine, theirs) or agree


def _agrees_within(mine: Any, theirs: Any, variable: Any, where: IntervalForm, exact: bool) -> bool:
    """Decide whether two formulas agree at the ends of an interval that belong to it, and within it."""
    low, high = (end.value if isinstance(end, Number) else None for end in (where.low, where.high))
    start = low if low is not None else (high or 0) - 8
    stop = high if high is not None else start + 8
    places = [start + (stop - start) * Fraction(part, 8) for part in range(9)]
    inside = places[0 if where.low_closed else 1 : None if where.high_closed else -1]
    for place in inside:
        point = {variable: sympy.Rational(place.numerator, place.denominator)}
        left, right = value(mine, point), value(theirs, point)
        if left is None or right is None or not near(left, right, exact):
            return False
    return True


def _with_fractions(formula: Any) -> Any:
    decimals = {decimal: sympy.Rational(str(decimal)) for decimal in formula.atoms(sympy.Float)}
    return formula.xreplace(decimals)


def _agree_at_points(mine: Any, theirs: Any, exact: bool) -> bool | None:
    """Decide whether two formulas agree at the points where both have a value; None if those are too few."""
    agreeing: list[tuple[Point, Fraction]] = []
    one_is_real = 0
    for point in points(sympy.Tuple(mine, theirs), exact):
        left, right = value(mine, point), value(theirs, point)
        if left is None or right is None:
            continue
        if bool(left.imaginary) != bool(right.imaginary):
            one_is_real += 1  # outside the domain of one, if they agree elsewhere
        elif not near(left, right, exact):
            return False
        else:
            agreeing.append((point, left.size()))
    if len(agreeing) >= POINTS_NEEDED:
        return not exact or surely_equal(mine, theirs, *agreeing[0])
    return False if not agreeing and one_is_real >= POINTS_NEEDED else None
