"""Compare formulas with Math-Verify's parser and sympy. Only the checking processes import this module."""

import logging
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import sympy
from math_verify import verify

from hsstar.verifier.equivalence import UnparsableError
from hsstar.verifier.forms import Formula, Relation, Scalar
from hsstar.verifier.latex import parse_latex
from hsstar.verifier.numeric import Number, is_close

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns about time limits, which the pool keeps

_DIGITS = 30
_EXACT = Fraction(1, 10**18)
_ZERO = Fraction(1, 10**40)
_MANY_DIGITS = 1_000
_UNSURE_DIGITS = 50
_MOST_DIGITS = 1_000_000
_BINDING = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit)
_SLOW = (*_BINDING, sympy.Derivative, sympy.gamma, sympy.loggamma, sympy.zeta, sympy.polygamma)
_SLOW_BETWEEN_INTEGERS = (sympy.factorial, sympy.factorial2, sympy.binomial)
# sympy raises these if a function has no value, or if it cannot tell
_NO_VALUE = (ValueError, TypeError, ZeroDivisionError, AttributeError, NotImplementedError, OverflowError)
_POINTS = 12
_POINTS_NEEDED = 4
_SCALES = {3: 16, 5: 16, 7: 400, 8: 400}  # most points are near zero, some are far from it
_DECIMAL = re.compile(r"\d\.\d|(?<!\d)\.\d")
_DIALECT = (  # the parser misunderstands these, or cannot read them
    (re.compile(r"\\text\{([^{}]*)\}"), r"\1"),
    (re.compile(r"(\d+(?:\.\d+)?|[A-Za-z])\^\\circ\s?"), r"(\1\\frac{\\pi}{180})"),
    (re.compile(r"(?<![A-Za-z\\])E(?=_)"), r"\\varepsilon"),
    (re.compile(r"([A-Za-z])('+)"), lambda primed: f"{primed[1]}_{{{'p' * len(primed[2])}rime}}"),
    (re.compile(r"\\[cl]?dots(?![A-Za-z])"), "D_{dots}"),
    (re.compile(r"\\cis\s*\(((?:[^()]|\([^()]*\)){1,200}+)\)"), r"(\\cos(\1)+i\\sin(\1))"),
    (
        re.compile(r"\\cis\s*(\\frac\{[^{}]*\}\{[^{}]*\}|\(\d+\\frac\{\\pi\}\{180\}\)|\\[a-z]+|[a-z])"),
        r"(\\cos(\1)+i\\sin(\1))",
    ),
    (
        re.compile(r"(\\(?:sin|cos|tan|cot|sec|csc)(?:\^\{\d\})?)\s*([a-z]|\\[a-z]+)\s*/\s*(?=\\[a-z]{3}\b)"),
        r"\1(\2)/",
    ),
)


class SympyAlgebra:
    """Compare formulas by value (contract `equivalence.Algebra`), by Math-Verify if they have none."""

    def equal(self, answer: Scalar, reference: Scalar) -> bool:
        """Decide whether two formulas are equal."""
        mine, theirs = _parsed(answer), _parsed(reference)
        exact = not (_has_decimals(answer) or _has_decimals(reference))
        mine = _with_constant_of(theirs, mine)
        if mine == theirs or _differ_in_bound_variables(mine, theirs):
            return True
        if _is_matrix(mine) or _is_matrix(theirs):
            return _matrices_equal(mine, theirs, exact)
        if not (_is_scalar(mine) and _is_scalar(theirs)):
            return bool(verify(theirs, mine, timeout_seconds=None))
        if not mine.free_symbols and not theirs.free_symbols:
            return _constants_equal(mine, theirs, answer, reference, exact)
        agreed = _agree_at_points(mine, theirs, exact)
        return bool(verify(theirs, mine, timeout_seconds=None)) if agreed is None else agreed

    def equal_relations(self, answer: Relation, reference: Relation) -> bool:
        """Decide whether two relations of the same sign say the same: their differences are proportional.

        One of two equations may also be `y = …`, which solves the other, linear in y.
        """
        mine, theirs = _difference(answer), _difference(reference)
        if mine == theirs:
            return True
        ratio = sympy.Mul(mine, sympy.Pow(theirs, -1, evaluate=False), evaluate=False)
        values = _values(ratio)
        if len(values) < _POINTS_NEEDED or values[0].size() <= _ZERO:
            return False
        if answer.sign != "=" and (values[0].real <= 0 or values[0].imaginary):
            return False
        exact = not (
            _DECIMAL.search(answer.left + answer.right) or _DECIMAL.search(reference.left + reference.right)
        )
        if all(_near(value, values[0], exact) for value in values[1:]):
            return True
        return answer.sign == "=" and (_solves(answer, theirs) or _solves(reference, mine))

    def can_read(self, formula: Formula) -> bool:
        """Decide whether a formula can be read."""
        try:
            _parse(formula.source)
        except UnparsableError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class _Complex:
    real: Fraction
    imaginary: Fraction

    def size(self) -> Fraction:
        return max(abs(self.real), abs(self.imaginary))

    def distance(self, other: "_Complex") -> Fraction:
        return max(abs(self.real - other.real), abs(self.imaginary - other.imaginary))


def _parsed(scalar: Scalar) -> Any:
    if isinstance(scalar, Number):
        return sympy.Rational(scalar.value.numerator, scalar.value.denominator)
    return _parse(scalar.source)


@lru_cache(maxsize=2_048)
def _parse(source: str) -> Any:
    """Return the sympy object of a formula; raise UnparsableError if it cannot be parsed."""
    latex = source
    for pattern, replacement in _DIALECT:
        latex = pattern.sub(replacement, latex)
    parsed = parse_latex(latex)
    if parsed is None or isinstance(parsed, str):
        raise UnparsableError(source)
    if not (_is_scalar(parsed) or _is_matrix(parsed)):
        return parsed
    return parsed.subs({symbol: sympy.I for symbol in parsed.free_symbols if symbol.name == "i"})


def _difference(relation: Relation) -> Any:
    left, right = _parse(relation.left), _parse(relation.right)
    if not (_is_scalar(left) and _is_scalar(right)):
        raise UnparsableError(f"{relation.left}{relation.sign}{relation.right}")
    return left - right


def _solves(relation: Relation, difference: Any) -> bool:
    name, solution = _parse(relation.left), _parse(relation.right)
    if not name.is_Symbol or name in solution.free_symbols or name not in difference.free_symbols:
        return False
    for vanishing in (difference.subs(name, solution), difference.diff(name, 2)):
        values = _values(vanishing)
        if len(values) < _POINTS_NEEDED or any(value.size() > _EXACT for value in values):
            return False
    return True


def _is_scalar(parsed: Any) -> bool:
    return isinstance(parsed, sympy.Expr) and not isinstance(parsed, sympy.MatrixExpr)


def _differ_in_bound_variables(mine: Any, theirs: Any) -> bool:
    scalar = _is_scalar(mine) and _is_scalar(theirs)
    return scalar and mine.has(*_BINDING) and bool(mine.as_dummy() == theirs.as_dummy())


def _is_matrix(parsed: Any) -> bool:
    return isinstance(parsed, sympy.MatrixBase | sympy.MatrixExpr)


def _matrices_equal(mine: Any, theirs: Any, exact: bool) -> bool:
    left, right = _explicit(mine), _explicit(theirs)
    if not (_is_matrix(left) and _is_matrix(right)) or left.shape != right.shape:
        return False
    return all(_agree_at_points(*entries, exact) is True for entries in zip(left, right, strict=True))


def _explicit(parsed: Any) -> Any:
    try:
        matrix = parsed.doit()
        return matrix.as_explicit() if isinstance(matrix, sympy.MatrixExpr) else matrix
    except (ValueError, TypeError, AttributeError, NotImplementedError, sympy.ShapeError):
        return None


def _with_constant_of(theirs: Any, mine: Any) -> Any:
    """Write the constant of integration, c or C, in the same case as the other formula."""
    my_names, their_names = ({symbol.name for symbol in parsed.free_symbols} for parsed in (mine, theirs))
    for old, new in (("c", "C"), ("C", "c")):
        if old in my_names - their_names and new in their_names - my_names:
            return mine.subs(sympy.Symbol(old, real=True), sympy.Symbol(new, real=True))
    return mine


def _has_decimals(scalar: Scalar) -> bool:
    return not scalar.exact if isinstance(scalar, Number) else bool(_DECIMAL.search(scalar.source))


def _constants_equal(mine: Any, theirs: Any, answer: Scalar, reference: Scalar, exact: bool) -> bool:
    left, right = _value(mine, {}), _value(theirs, {})
    if left is None or right is None:
        return bool(verify(theirs, mine, timeout_seconds=None))
    if exact:
        return _near(left, right, True) and _surely_equal(mine, theirs, {}, left)
    if _near(left, right, True):
        return True
    if left.imaginary or right.imaginary:
        return _near(left, right, False)
    number = (
        reference
        if isinstance(reference, Number)
        else Number(right.real, 0 if _has_decimals(reference) else None)
    )
    endless = not _has_decimals(answer) and (left.real * 10**12).denominator > 1
    return is_close(left.real, endless, number)


def _near(left: _Complex, right: _Complex, exact: bool) -> bool:
    if left.size() < _ZERO and right.size() < _ZERO:
        return True
    tolerance = _EXACT if exact else Fraction(1, 10_000)
    return left.distance(right) <= tolerance * max(left.size() if exact else 0, right.size())


def _agree_at_points(mine: Any, theirs: Any, exact: bool) -> bool | None:
    """Decide whether two formulas agree at the points where both have a value; None if those are too few."""
    agreeing: list[tuple[dict[Any, Any], _Complex]] = []
    one_is_real = 0
    for point in _points(sympy.Tuple(mine, theirs)):
        left, right = _value(mine, point), _value(theirs, point)
        if left is None or right is None:
            continue
        if bool(left.imaginary) != bool(right.imaginary):
            one_is_real += 1  # outside the domain of one, if they agree elsewhere
        elif not _near(left, right, exact):
            return False
        else:
            agreeing.append((point, left))
    if len(agreeing) >= _POINTS_NEEDED:
        return not exact or _surely_equal(mine, theirs, *agreeing[0])
    return False if not agreeing and one_is_real >= _POINTS_NEEDED else None


def _surely_equal(mine: Any, theirs: Any, point: dict[Any, Any], value: _Complex) -> bool:
    """Decide whether two formulas that agree to eighteen digits agree to a thousand decimals.

    2^2024 and 2^2024 - 1 have six hundred digits in common. Slow formulas are not asked for that many.
    """
    slow = (*_SLOW, *_SLOW_BETWEEN_INTEGERS) if point else _SLOW
    if mine.has(*slow) or theirs.has(*slow):
        return True
    digits = _MANY_DIGITS + int(value.size()).bit_length() // 3
    if digits > _MOST_DIGITS:
        return False
    try:
        left, right = (formula.evalf(digits, subs=point).as_real_imag() for formula in (mine, theirs))
        largest = max(map(abs, (*left, *right)))
        distance = max(abs(one - other) for one, other in zip(left, right, strict=True))
        noise = sympy.Float(10, digits) ** -(digits - _UNSURE_DIGITS)
        return bool(distance <= largest * noise or largest <= noise)
    except _NO_VALUE:
        return True  # so far, it is equal


def _values(expression: Any) -> list[_Complex]:
    values = (_value(expression, point) for point in _points(expression))
    return [value for value in values if value is not None]


def _points(expression: Any) -> list[dict[Any, Any]]:
    """Return points to evaluate at; a variable's values follow from its name alone.

    Bounds of sums and products are small positive integers: others have no value, and large ones take long.
    """
    symbols = sorted(expression.free_symbols, key=str)
    limits = (limit for large in expression.atoms(sympy.Sum, sympy.Product) for limit in large.limits)
    bounds = sorted(set().union(*(limit[1:].free_symbols for limit in limits)), key=str)
    return [
        {symbol: _coordinate(str(symbol), index) for symbol in symbols}
        | {
            bound: sympy.Integer(1 + index * place % (_POINTS + 1))
            for place, bound in enumerate(bounds, start=1)
        }
        for index in range(_POINTS)
    ]


def _coordinate(name: str, index: int) -> Any:
    noise = int.from_bytes(blake2b(f"{name} {index}".encode(), digest_size=2).digest())
    size = sympy.Rational(200 + noise % 2_311, 997) * _SCALES.get(index, 1)
    return -size if index % 3 == 2 else size


def _value(expression: Any, point: dict[Any, Any]) -> _Complex | None:
    try:
        value = expression.evalf(_DIGITS, subs=point) if point else expression.evalf(_DIGITS)
        real, imaginary = value.as_real_imag()
        if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
            return None
        parts = Fraction(str(real)), Fraction(str(imaginary))
    except _NO_VALUE:
        return None
    small = max(map(abs, parts)) * _EXACT
    return _Complex(*(part if abs(part) > small else Fraction(0) for part in parts))
