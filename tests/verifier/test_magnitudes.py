"""Numbers that are too large to be computed are told from others, and never a number from itself."""

from typing import Any

import mpmath
import pytest
import sympy
from hypothesis import assume, given
from hypothesis import strategies as st

from hsstar.verifier.dialect import parser_dialect
from hsstar.verifier.latex import parse_latex
from hsstar.verifier.magnitudes import Magnitude, magnitude, may_be_enormous
from tests.generated import examples

MOST_BITS = 1 << 16  # of a number that is computed

TOWER = "9^{9^{9^{9}}}"
ENORMOUS, TINY, USUAL = Magnitude.ENORMOUS, Magnitude.TINY, Magnitude.USUAL


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (TOWER, ENORMOUS),
        (rf"\frac{{5^{{{TOWER}-4}}-5}}{{16}}", ENORMOUS),
        (rf"-{TOWER}", ENORMOUS),
        (rf"2^{{-{TOWER}}}", TINY),
        (rf"\frac{{1}}{{{TOWER}}}", TINY),
        (rf"(\frac{{1}}{{9}})^{{{TOWER}}}", TINY),
        (rf"(-9)^{{{TOWER}}}", ENORMOUS),
        (rf"({TOWER})^{{\pi}}", ENORMOUS),
        (rf"({TOWER})!", ENORMOUS),
        (rf"{TOWER}+2^{{-{TOWER}}}", ENORMOUS),
        ("e^{e^{e^{10}}}", ENORMOUS),
        ("2^{2024}", USUAL),
        ("20!", USUAL),
        (rf"1^{{{TOWER}}}", None),
        (rf"\sqrt[9]{{{TOWER}}}", None),
        (rf"{TOWER}-{TOWER}", None),
        (rf"\frac{{{TOWER}}}{{9^{{9^9}}}}", None),
        (rf"9^{{(-9)^{{{TOWER}}}}}", None),
        (rf"1+2^{{-{TOWER}}}", None),
        (rf"\sin({TOWER})", None),
    ],
)
def test_a_magnitude_is_certain_or_unclear(source: str, expected: Magnitude | None) -> None:
    number = parse_latex(parser_dialect(source))
    assert may_be_enormous(number) or expected is USUAL
    assert magnitude(number) is expected


BASES = st.sampled_from(["2", "-3", "1/2", "-7/5", "1001/1000", "pi"]).map(sympy.sympify)
EXPONENTS = st.sampled_from([2, -3, 40_000, -40_000, 10**8, 3 * 10**9, -(10**12)]).map(sympy.Integer)
SMALL = st.integers(-9, 9).filter(bool).map(sympy.Integer)


def combined(parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(
        lambda make, left, right: make(left, right, evaluate=False),
        st.sampled_from([sympy.Add, sympy.Mul]),
        parts,
        parts,
    )


POWERS = st.builds(lambda base, exponent: sympy.Pow(base, exponent, evaluate=False), BASES, EXPONENTS)
NUMBERS = st.recursive(POWERS | SMALL, combined, max_leaves=4)


def value(number: Any) -> mpmath.mpf:
    """The value of a number, by floats whose exponents have no limit."""
    parts = [value(part) for part in number.args]
    if isinstance(number, sympy.Pow):
        return mpmath.power(parts[0], int(number.exp))
    if isinstance(number, sympy.Add | sympy.Mul):
        return mpmath.fsum(parts) if isinstance(number, sympy.Add) else mpmath.fprod(parts)
    return mpmath.pi() if number is sympy.pi else mpmath.mpf(int(number.p)) / int(number.q)


def bits(number: Any) -> float:
    """The bits before the point; negative: zeros behind it."""
    with mpmath.workdps(60):
        exact = value(number)
        return float(mpmath.log(abs(exact), 2)) if exact else 0.0


@given(NUMBERS)
@examples(200)
def test_a_certain_magnitude_is_the_true_one(number: Any) -> None:
    size = magnitude(number)
    assume(size is not None)
    truth = bits(number)
    assert size == (0 if abs(truth) <= MOST_BITS else 1 if truth > 0 else -1)


@given(BASES, st.sampled_from([10**12, -(10**12)]))
@examples(50)
def test_a_power_beyond_what_can_be_computed_has_a_magnitude(base: Any, exponent: int) -> None:
    power = sympy.Pow(base, sympy.Integer(exponent), evaluate=False)
    assert magnitude(power) == (1 if bits(power) > 0 else -1)
