"""Approximate formulas with a bound on the error (ball arithmetic), many times faster than sympy's `evalf`.

Known are rational numbers and decimals, π, e and i, sums, products, powers, absolute values, logarithms, the
trigonometric functions of real numbers, factorials and binomials of small integers, and sums and products
over a few of them. The mathematics is sympy's: powers and logarithms have their principal value.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from math import comb, factorial
from typing import Any, NamedTuple

import sympy
from mpmath import libmp

Mpf = tuple[int, int, int, int]
"""A number of mpmath without its context: sign, mantissa, exponent of two, bits of the mantissa."""

_GUARD_BITS = 64
_EXACT = -(1 << 60)  # the exponent of no error at all
_ROUNDING = 5  # bits of the last place that a function of mpmath may get wrong
_SURE = -8  # a relative error of at most 2^-8: sums of its powers are below twice the first one
_LARGEST = 1 << 16  # bits of a value before or behind the point
_LARGEST_ARGUMENT = 20  # bits of the integer part
_LARGEST_INTEGER = 1_000
_MOST_TERMS = 200


class UnsureError(Exception):
    """A formula that is not known here, or whose error would be too large."""


class Ball(NamedTuple):
    """A complex number whose parts are wrong by 2^`error` at most; `imaginary` is None if it is real."""

    real: Mpf
    imaginary: Mpf | None
    error: int


def approximate(formula: Any, point: Mapping[Any, Any], bits: int) -> tuple[Mpf, Mpf]:
    """Return real and imaginary part at a point, wrong by 2^-`bits` of the larger at most; or UnsureError."""
    precision = bits + _GUARD_BITS
    ball = _Evaluation(point, precision).ball(formula)
    size = _size(ball.real, ball.imaginary)
    if ball.error > size - bits - 1 or abs(size) > _LARGEST:
        raise UnsureError
    return ball.real, ball.imaginary or libmp.fzero


class _Evaluation:
    """One formula at one point."""

    def __init__(self, point: Mapping[Any, Any], precision: int) -> None:
        self._precision = precision
        self._values = {symbol: self._rational(value) for symbol, value in point.items()}

    def ball(self, formula: Any) -> Ball:
        evaluate = _KNOWN.get(type(formula))
        if evaluate:
            return evaluate(self, formula)
        if formula.is_Rational:
            return self._rational(formula)
        if formula.is_Symbol and formula in self._values:
            return self._values[formula]
        raise UnsureError

    def _rounded(self, real: Mpf, imaginary: Mpf | None, error: int) -> Ball:
        """Return the value of a function of mpmath, `error` being what its arguments make wrong."""
        size = _size(real, imaginary)
        if abs(size) > _LARGEST and size != _EXACT:
            raise UnsureError
        return Ball(real, imaginary, max(error, size - self._precision + _ROUNDING) + 1)

    def _integer(self, number: Mpf) -> Ball:
        """Return an integer: without an error if it is not too long."""
        if number[2] + number[3] <= self._precision:
            return Ball(number, None, _EXACT)
        return self._rounded(libmp.mpf_pos(number, self._precision), None, _EXACT)

    def _rational(self, number: Any) -> Ball:
        if number.q == 1:
            return self._integer(libmp.from_int(number.p))
        return self._rounded(libmp.from_rational(number.p, number.q, self._precision), None, _EXACT)

    def _decimal(self, number: Any) -> Ball:
        if not number.is_finite:
            raise UnsureError
        return self._rounded(number._mpf_, None, _EXACT)

    def _constant(self, number: Any) -> Ball:
        compute = libmp.mpf_pi if number is sympy.pi else libmp.mpf_e
        return self._rounded(compute(self._precision), None, _EXACT)

    def _i(self, _: Any) -> Ball:
        return Ball(libmp.fzero, libmp.fone, _EXACT)

    def _sum(self, formula: Any) -> Ball:
        return self._added(list(map(self.ball, formula.args)))

    def _added(self, terms: list[Ball]) -> Ball:
        if all(map(_is_integer, terms)):
            return self._integer(reduce(libmp.mpf_add, (term.real for term in terms)))
        real, imaginary, error = libmp.fzero, None, _EXACT
        for term in terms:
            real = libmp.mpf_add(real, term.real, self._precision)
            if term.imaginary is not None:
                imaginary = libmp.mpf_add(imaginary or libmp.fzero, term.imaginary, self._precision)
            error = max(error, term.error, _size(real, imaginary) - self._precision)
        return self._rounded(real, imaginary, error + len(terms).bit_length() + 1)

    def _product(self, formula: Any) -> Ball:
        return reduce(self._times, map(self.ball, formula.args))

    def _times(self, left: Ball, right: Ball) -> Ball:
        if _is_integer(left) and _is_integer(right):
            return self._integer(libmp.mpf_mul(left.real, right.real))
        my_size, their_size = _size(left.real, left.imaginary), _size(right.real, right.imaginary)
        error = max(my_size + right.error, their_size + left.error, left.error + right.error) + 3
        if left.imaginary is None and right.imaginary is None:
            return self._rounded(libmp.mpf_mul(left.real, right.real, self._precision), None, error)
        real, imaginary = libmp.mpc_mul(_complex(left), _complex(right), self._precision)
        return self._rounded(real, imaginary, error)

    def _power(self, formula: Any) -> Ball:
        base, exponent = formula.args
        if exponent.is_Integer:
            return self._integer_power(self.ball(base), int(exponent))
        if exponent.is_Rational and exponent.q == 2:
            return self._integer_power(self._root(self.ball(base)), int(exponent.p))
        power = self.ball(exponent)
        if _is_integer(power):
            return self._integer_power(self.ball(base), libmp.to_int(power.real))
        return self._exponential(self._times(power, self._logarithm(self.ball(base))))

    def _power_of_e(self, formula: Any) -> Ball:
        return self._exponential(self.ball(formula.args[0]))

    def _integer_power(self, base: Ball, exponent: int) -> Ball:
        if exponent == 1:
            return base
        error = _relative_error(base) + exponent.bit_length()
        if error > _SURE or abs(_size(base.real, base.imaginary) * exponent) > _LARGEST:
            raise UnsureError
        if base.imaginary is None:
            real, imaginary = libmp.mpf_pow_int(base.real, exponent, self._precision), None
        else:
            real, imaginary = libmp.mpc_pow_int(_complex(base), exponent, self._precision)
        return self._with_relative_error(real, imaginary, error)

    def _with_relative_error(self, real: Mpf, imaginary: Mpf | None, error: int) -> Ball:
        return self._rounded(real, imaginary, _size(real, imaginary) + error + 2)

    def _root(self, base: Ball) -> Ball:
        error = _relative_error(base)
        if base.imaginary is not None:
            _refuse_cut(base)
            real, imaginary = libmp.mpc_sqrt(_complex(base), self._precision)
            return self._with_relative_error(real, imaginary, error)
        root = libmp.mpf_sqrt(libmp.mpf_abs(base.real), self._precision)
        if base.real[0]:
            return self._with_relative_error(libmp.fzero, root, error)
        return self._with_relative_error(root, None, error)

    def _logarithm(self, argument: Ball) -> Ball:
        error = _relative_error(argument) + 2
        if argument.imaginary is not None:
            _refuse_cut(argument)
            real, imaginary = libmp.mpc_log(_complex(argument), self._precision)
            return self._rounded(real, imaginary, error)
        real = libmp.mpf_log(libmp.mpf_abs(argument.real), self._precision)
        return self._rounded(real, libmp.mpf_pi(self._precision) if argument.real[0] else None, error)

    def _exponential(self, argument: Ball) -> Ball:
        _refuse_large(argument)
        if argument.imaginary is None:
            real = libmp.mpf_exp(argument.real, self._precision)
            return self._with_relative_error(real, None, argument.error)
        real, imaginary = libmp.mpc_exp(_complex(argument), self._precision)
        return self._with_relative_error(real, imaginary, argument.error + 1)

    def _logarithm_to_base(self, formula: Any) -> Ball:
        logarithms = [self._logarithm(self.ball(argument)) for argument in formula.args]
        return self._quotient(*logarithms) if len(logarithms) == 2 else logarithms[0]

    def _quotient(self, top: Ball, bottom: Ball) -> Ball:
        return self._times(top, self._integer_power(bottom, -1))

    def _absolute(self, formula: Any) -> Ball:
        argument = self.ball(formula.args[0])
        if argument.imaginary is None:
            return argument._replace(real=libmp.mpf_abs(argument.real))
        size = libmp.mpf_hypot(argument.real, argument.imaginary, self._precision)
        return self._rounded(size, None, argument.error + 1)

    def _step(self, formula: Any) -> Ball:
        """Return a floor, a ceiling or a sign of a real number that is surely between two steps."""
        argument = self.ball(formula.args[0])
        number = argument.real
        if argument.imaginary is not None:
            raise UnsureError
        if isinstance(formula, sympy.sign):
            _relative_error(argument)
            return Ball(libmp.fnone if number[0] else libmp.fone, None, _EXACT)
        if _is_integer(argument):
            return argument
        below = libmp.mpf_floor(number)
        distances = libmp.mpf_sub(number, below), libmp.mpf_sub(libmp.mpf_add(below, libmp.fone), number)
        if argument.error > _SURE or min(map(_magnitude, distances)) - 1 <= argument.error:
            raise UnsureError
        return self._integer(below if isinstance(formula, sympy.floor) else libmp.mpf_add(below, libmp.fone))

    def _wave(self, formula: Any) -> Ball:
        argument = self.ball(formula.args[0])
        _refuse_large(argument)
        if argument.imaginary is not None:
            raise UnsureError
        cosine, sine = (
            self._rounded(part, None, argument.error)
            for part in libmp.mpf_cos_sin(argument.real, self._precision)
        )
        match formula:
            case sympy.sin():
                return sine
            case sympy.cos():
                return cosine
            case sympy.tan():
                return self._quotient(sine, cosine)
            case sympy.cot():
                return self._quotient(cosine, sine)
            case _:
                return self._integer_power(cosine if isinstance(formula, sympy.sec) else sine, -1)

    def _arctangent(self, formula: Any) -> Ball:
        argument = self.ball(formula.args[0])
        if argument.imaginary is not None:
            raise UnsureError
        return self._rounded(libmp.mpf_atan(argument.real, self._precision), None, argument.error)

    def _counted(self, formula: Any) -> Ball:
        arguments = [self._small_integer(argument) for argument in formula.args]
        number = factorial(*arguments) if len(arguments) == 1 else comb(*arguments)
        return self._rational(sympy.Integer(number))

    def _repeated(self, formula: Any) -> Ball:
        """Return a sum or product over the integers of a range that is not empty."""
        if len(formula.limits) != 1 or len(formula.limits[0]) != 3:
            raise UnsureError
        variable, *bounds = formula.limits[0]
        low, high = map(self._small_integer, bounds)
        if not low <= high < low + _MOST_TERMS:
            raise UnsureError
        terms = [self._with(variable, number).ball(formula.function) for number in range(low, high + 1)]
        return self._added(terms) if isinstance(formula, sympy.Sum) else reduce(self._times, terms)

    def _with(self, variable: Any, number: int) -> "_Evaluation":
        inner = _Evaluation({}, self._precision)
        inner._values = {**self._values, variable: self._integer(libmp.from_int(number))}
        return inner

    def _small_integer(self, formula: Any) -> int:
        """Return the value of a formula that is an integer for certain."""
        ball = self.ball(formula)
        if not _is_integer(ball) or not 0 <= (number := libmp.to_int(ball.real)) <= _LARGEST_INTEGER:
            raise UnsureError
        return int(number)


_KNOWN: dict[type, Callable[[_Evaluation, Any], Ball]] = {
    **dict.fromkeys(map(type, (sympy.S.Zero, sympy.S.One, sympy.S.NegativeOne)), _Evaluation._rational),
    **dict.fromkeys((sympy.Integer, sympy.Rational, type(sympy.S.Half)), _Evaluation._rational),
    **dict.fromkeys((type(sympy.pi), type(sympy.E)), _Evaluation._constant),
    type(sympy.I): _Evaluation._i,
    sympy.Float: _Evaluation._decimal,
    sympy.Add: _Evaluation._sum,
    sympy.Mul: _Evaluation._product,
    sympy.Pow: _Evaluation._power,
    sympy.exp: _Evaluation._power_of_e,
    sympy.log: _Evaluation._logarithm_to_base,
    sympy.Abs: _Evaluation._absolute,
    **dict.fromkeys((sympy.floor, sympy.ceiling, sympy.sign), _Evaluation._step),
    **dict.fromkeys((sympy.sin, sympy.cos, sympy.tan, sympy.cot, sympy.sec, sympy.csc), _Evaluation._wave),
    sympy.atan: _Evaluation._arctangent,
    **dict.fromkeys((sympy.factorial, sympy.binomial), _Evaluation._counted),
    **dict.fromkeys((sympy.Sum, sympy.Product), _Evaluation._repeated),
}


def _magnitude(number: Mpf) -> int:
    return number[2] + number[3] if number[1] else _EXACT


def _size(real: Mpf, imaginary: Mpf | None) -> int:
    """Return n so that the larger part is below 2^n and at least 2^(n-1)."""
    if imaginary is None:
        return _magnitude(real)
    return max(_magnitude(real), _magnitude(imaginary))


def _is_integer(ball: Ball) -> bool:
    """Decide whether a ball is an integer for certain: only integers have no error, and i."""
    return ball.error == _EXACT and ball.imaginary is None


def _complex(ball: Ball) -> tuple[Mpf, Mpf]:
    return ball.real, libmp.fzero if ball.imaginary is None else ball.imaginary


def _relative_error(ball: Ball) -> int:
    """Return n so that the relative error is at most 2^n."""
    error = ball.error - _size(ball.real, ball.imaginary) + 2
    if error > _SURE:
        raise UnsureError
    return error


def _refuse_cut(ball: Ball) -> None:
    """Raise if a complex number may be a negative real one, where logarithms and roots jump."""
    real, imaginary = _complex(ball)
    is_positive = not real[0] and _magnitude(real) - 1 > ball.error
    if not is_positive and _magnitude(imaginary) - 1 <= ball.error:
        raise UnsureError


def _refuse_large(argument: Ball) -> None:
    if argument.error > _SURE or _size(argument.real, argument.imaginary) > _LARGEST_ARGUMENT:
        raise UnsureError
