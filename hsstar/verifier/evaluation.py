"""Values of sympy expressions at points, and how close they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b
from math import inf
from typing import Any

import sympy
from mpmath.libmp import to_rational

from hsstar.verifier.balls import Mpf, UnsureError, approximate

Point = dict[Any, Any]

POINTS_NEEDED = 4
EXACT = Fraction(1, 10**18)
BINDING = (sympy.Sum, sympy.Product, sympy.Integral, sympy.Limit)
# sympy raises these if a function has no value, or if it cannot tell
NO_VALUE = (ValueError, TypeError, ZeroDivisionError, AttributeError, NotImplementedError, OverflowError)

_ZERO = Fraction(0)
_CLOSE = Fraction(1, 10_000)
_DIGITS = 30
_BITS = 100  # of as many digits
_MANY_DIGITS = 1_000
_UNSURE_DIGITS = 50
_UNSURE_BITS = 40  # a value with fewer bits that are certain is what rounding left of zero
_MOST_DIGITS = 1_000_000
_FEW_BITS = 20_000
_SLOW = (*BINDING, sympy.Derivative, sympy.gamma, sympy.loggamma, sympy.zeta, sympy.polygamma)
_COUNTS = (sympy.factorial, sympy.factorial2, sympy.binomial)  # slow between integers, large at them
_POINTS = 12
_SCALES = {3: 16, 5: 16, 7: 400, 8: 400}  # most points are near zero, some are far from it
_POINTS_OF_MIXED_SIZES = 8
_POINTS_OF_MIXED_SIGNS = 4
_SIZES = (sympy.Rational(1, 10**6), sympy.Integer(10**3))
_CORNERS = (sympy.Abs, sympy.Max, sympy.Min, sympy.sign)
_STEPS = (sympy.floor, sympy.ceiling, sympy.Mod, sympy.frac)
_LARGEST_INTEGER = 12


@dataclass(frozen=True, slots=True)
class Complex:
    """A complex number of about thirty digits."""

    real: Fraction
    imaginary: Fraction

    def size(self) -> Fraction:
        """Return the larger of the absolute values of the two parts."""
        return max(abs(self.real), abs(self.imaginary)) if self.imaginary else abs(self.real)

    def distance(self, other: "Complex") -> Fraction:
        """Return the largest distance of a part."""
        return max(abs(self.real - other.real), abs(self.imaginary - other.imaginary))


def near(left: Complex, right: Complex, exact: bool) -> bool:
    """Decide whether two values agree to eighteen digits, or only to four if not `exact`."""
    if left == right:
        return True
    tolerance = EXACT if exact else _CLOSE
    return left.distance(right) <= tolerance * max(left.size() if exact else 0, right.size())


def value(expression: Any, point: Point) -> Complex | None:
    """Return the value of an expression at a point, None if it has none or sympy cannot tell."""
    try:
        parts = _parts(expression, point)
    except NO_VALUE:
        return None
    return None if parts is None else _complex(*parts)


def certain_value(expression: Any, point: Point) -> Complex | None:
    """Return the value of an expression at a point if ball arithmetic knows it."""
    try:
        return _complex(*map(_rounded, approximate(expression, point, _BITS)))
    except UnsureError:
        return None


def _complex(real: Fraction, imaginary: Fraction) -> Complex:
    """Return a number of two parts, without one that is tiny beside the other."""
    if not imaginary:
        return Complex(real, imaginary)
    small = max(abs(real), abs(imaginary)) * EXACT
    return Complex(*(part if abs(part) > small else _ZERO for part in (real, imaginary)))


def _parts(expression: Any, point: Point) -> tuple[Fraction, Fraction] | None:
    try:
        real, imaginary = approximate(expression, point, _BITS)
        return _rounded(real), _rounded(imaginary)
    except UnsureError:
        number = expression.evalf(_DIGITS, subs=point) if point else expression.evalf(_DIGITS)
    if not number.is_number:
        return None  # f(2)
    real, imaginary = map(_certain, number.as_real_imag())
    if not (real.is_Number and imaginary.is_Number and real.is_finite and imaginary.is_finite):
        return None
    return Fraction(str(real)), Fraction(str(imaginary))


def _rounded(number: Mpf) -> Fraction:
    """Return a number of mpmath, rounded to `_DIGITS` decimal digits or one more."""
    sign, mantissa, exponent, bits = number
    if not mantissa:
        return _ZERO
    decimals = _DIGITS - (exponent + bits) * 30_103 // 100_000
    top, bottom = mantissa << max(exponent, 0), 1 << max(-exponent, 0)
    if decimals > 0:
        top *= 10**decimals
    else:
        bottom *= 10**-decimals
    digits = (2 * top + bottom) // (2 * bottom) * (-1 if sign else 1)
    return Fraction(digits, 10**decimals) if decimals > 0 else Fraction(digits * 10**-decimals)


def values(expression: Any, exact: bool) -> list[Complex]:
    """Return the values of an expression at the points where it has one."""
    found = (value(expression, point) for point in points(expression, exact))
    return [number for number in found if number is not None]


def points(expression: Any, exact: bool) -> list[Point]:
    """Return points to evaluate at; a variable's values follow from its name alone.

    Formulas with steps are evaluated at integers as well; those with corners or even roots where variables
    have different signs, as |x| + |y| is |x + y| where they have the same; those with decimals also where
    some variables are tiny and others large: no term may hide behind another.
    """
    symbols = _symbols(expression)
    chosen = [{symbol: _coordinate(symbol, index) for symbol in symbols} for index in range(_POINTS)]
    if expression.has(*_STEPS):
        chosen += integer_points(symbols, _POINTS)
    if len(symbols) > 1 and _depends_on_signs(expression):
        chosen += [
            {symbol: (-1) ** place * point[symbol] for place, symbol in enumerate(symbols)}
            for point in chosen[:_POINTS_OF_MIXED_SIGNS]
        ]
    if not exact:
        for index in range(_POINTS, _POINTS + _POINTS_OF_MIXED_SIZES):
            chosen.append({symbol: _coordinate(symbol, index) * _size(symbol, index) for symbol in symbols})
    return chosen


def _depends_on_signs(expression: Any) -> bool:
    return bool(expression.has(*_CORNERS)) or any(
        power.exp.is_Rational and power.exp.q % 2 == 0 for power in expression.atoms(sympy.Pow)
    )


def positive_points(symbols: Iterable[Any], number: int) -> Iterator[Point]:
    """Yield points of small and large positive coordinates."""
    symbols = list(symbols)
    for index in range(number):
        yield {symbol: abs(_coordinate(symbol, index)) for symbol in symbols}


def integer_points(symbols: Iterable[Any], number: int) -> list[Point]:
    """Return points of positive integers, small ones first."""
    return [
        {symbol: sympy.Integer(1 + (index + _noise(symbol, 0)) % _LARGEST_INTEGER) for symbol in symbols}
        if index
        else {symbol: sympy.Integer(2) for symbol in symbols}
        for index in range(number)
    ]


def surely_equal(mine: Any, theirs: Any, point: Point, size: Fraction) -> bool:
    """Decide whether two formulas that agree to eighteen digits agree to a thousand decimals.

    2^2024 and 2^2024 - 1 have six hundred digits in common. Slow formulas are not asked for that many.
    """
    slow = (*_SLOW, *_COUNTS) if point else _SLOW
    if mine.has(*slow) or theirs.has(*slow):
        return True
    bits = _bits(mine) + _bits(theirs)
    try:
        if bits > _FEW_BITS:
            mine, theirs = mine.doit(), theirs.doit()
            if mine.is_Rational and theirs.is_Rational:
                return bool(mine == theirs)
            bits = _most_bits(mine, theirs)
        digits = _MANY_DIGITS + (int(size).bit_length() + int(bits)) // 3
        if digits > _MOST_DIGITS:
            return False
        left, right = (_many_digits(formula, point, digits) for formula in (mine, theirs))
    except NO_VALUE:
        return True  # so far, it is equal
    largest = max(map(abs, (*left, *right)))
    distance = max(abs(one - other) for one, other in zip(left, right, strict=True))
    return bool(distance * 10 ** (digits - _UNSURE_DIGITS) <= largest)


def _many_digits(formula: Any, point: Point, digits: int) -> tuple[Fraction, Fraction]:
    """Return real and imaginary part; raise one of NO_VALUE if they have none."""
    try:
        real, imaginary = approximate(formula, point, digits * 10 // 3)
    except UnsureError:
        parts = formula.doit().evalf(digits, subs=point).as_real_imag()
        real, imaginary = (sympy.Rational(_certain(part)) for part in parts)
        return Fraction(int(real.p), int(real.q)), Fraction(int(imaginary.p), int(imaginary.q))
    return Fraction(*to_rational(real)), Fraction(*to_rational(imaginary))


def _bits(formula: Any) -> float:
    """Return the most bits that a number may have after `doit`, infinity if that is not known at once."""
    if formula.is_Rational:
        return (abs(int(formula.p)) - 1).bit_length() + (int(formula.q) - 1).bit_length()
    if formula.func in _COUNTS or (formula.is_Pow and not (formula.exp.is_Rational or formula.free_symbols)):
        return inf
    if formula.is_Pow and formula.exp.is_Rational:
        return (abs(int(formula.exp.p)) // int(formula.exp.q) + 1) * _bits(formula.base)
    return sum(map(_bits, formula.args))


def _most_bits(*formulas: Any) -> int:
    """Return the bits of the largest numerator or denominator, which may hide a difference: 1 + 2^-4000."""
    rationals = (number for formula in formulas for number in formula.atoms(sympy.Rational))
    return max((int(part).bit_length() for number in rationals for part in (number.p, number.q)), default=0)


def _certain(part: Any) -> Any:
    return sympy.Integer(0) if part.is_Float and part._prec < _UNSURE_BITS else part


def _symbols(expression: Any) -> list[Any]:
    return sorted(expression.free_symbols, key=str)


@lru_cache(maxsize=4_096)
def _coordinate(symbol: Any, index: int) -> Any:
    size = sympy.Rational(200 + _noise(symbol, index) % 2_311, 997) * _SCALES.get(index, 1)
    return -size if index % 3 == 2 else size


def _size(symbol: Any, index: int) -> Any:
    return _SIZES[_noise(symbol, index) % len(_SIZES)]


def _noise(symbol: Any, index: int) -> int:
    return int.from_bytes(blake2b(f"{symbol.name} {index}".encode(), digest_size=2).digest())
