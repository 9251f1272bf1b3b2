"""Numbers that are too large to be computed, and their reciprocals: 9^{9^{9^9}} is no 42."""

from enum import IntEnum
from fractions import Fraction
from math import log2, prod
from typing import Any, NamedTuple

import sympy

from hsstar.verifier.evaluation import certain_value


class Magnitude(IntEnum):
    """How a number compares to those that can be computed."""

    TINY = -1
    USUAL = 0
    ENORMOUS = 1


class _Size(NamedTuple):
    """A magnitude, the sign of the number (0: unknown), and the value of a usual one."""

    magnitude: Magnitude
    sign: int
    value: Fraction | None = None


_LEAST_EXPONENT = 10_000
_LEAST_BITS = 1 << 27
_NEAR_ONE = Fraction(1, 10**6)
_LEAST_FACTORIAL = 10_000_000


def may_be_enormous(number: Any) -> bool:
    """Decide quickly whether a number has a power or factorial that may be enormous."""
    return number.has(sympy.factorial) or any(
        not power.exp.is_Rational or abs(power.exp) >= _LEAST_EXPONENT
        for power in number.atoms(sympy.Pow, sympy.exp)
    )


def magnitude(number: Any) -> Magnitude | None:
    """Return the magnitude of a number without computing it; None if that is unclear.

    A usual one has at most 2^16 bits before or behind the point, and no formula has two thousand of them:
    what begins with 2^27 bits stays enormous, whatever usual numbers it is multiplied by.
    """
    size = _size(number)
    return None if size is None else size.magnitude


def _size(number: Any) -> _Size | None:
    known = certain_value(number, {})
    if known is not None:
        usual = known.real and not known.imaginary
        return _Size(Magnitude.USUAL, 1 if known.real > 0 else -1, known.real) if usual else None
    if isinstance(number, sympy.Pow | sympy.exp):
        base, exponent = map(_size, number.as_base_exp())
        return _power(base, exponent) if base and exponent else None
    parts = list(map(_size, number.args))
    sizes = [size for size in parts if size is not None]
    if not sizes or len(sizes) < len(parts):
        return None
    if isinstance(number, sympy.factorial):
        [size] = sizes
        large = size.magnitude is Magnitude.ENORMOUS or (size.value or 0) >= _LEAST_FACTORIAL
        return _Size(Magnitude.ENORMOUS, 1) if large and size.sign > 0 else None
    if isinstance(number, sympy.Mul):
        return _product(sizes)
    return _sum(sizes) if isinstance(number, sympy.Add) else None


def _power(base: _Size, exponent: _Size) -> _Size | None:
    growth = _growth(base)
    if not growth or not exponent.sign or not _is_large(base, exponent):
        return None
    # a negative base has a sign that hangs on the last digit of the exponent
    return _Size(Magnitude(growth * exponent.sign), 1 if base.sign > 0 else 0)


def _growth(base: _Size) -> int:
    """Return 1 if large powers of a base are large, -1 if they are small, 0 if that is unclear."""
    if base.value is None:
        return int(base.magnitude)
    distance = abs(base.value) - 1
    return 0 if abs(distance) < _NEAR_ONE else 1 if distance > 0 else -1


def _is_large(base: _Size, exponent: _Size) -> bool:
    """Decide whether an exponent makes a power enormous or tiny."""
    if exponent.value is None:
        return exponent.magnitude is Magnitude.ENORMOUS
    if base.value is None:
        return abs(exponent.value) >= 1
    bits = Fraction(abs(log2(abs(base.value.numerator)) - log2(base.value.denominator)))
    return bits * abs(exponent.value) >= _LEAST_BITS


def _product(sizes: list[_Size]) -> _Size | None:
    kinds = {size.magnitude for size in sizes} - {Magnitude.USUAL}
    return _Size(kinds.pop(), prod(size.sign for size in sizes)) if len(kinds) == 1 else None


def _sum(sizes: list[_Size]) -> _Size | None:
    signs = {size.sign for size in sizes if size.magnitude is Magnitude.ENORMOUS}
    return _Size(Magnitude.ENORMOUS, signs.pop()) if len(signs) == 1 and signs != {0} else None
