"""Ball arithmetic: a value is as near to the truth as it says, and what is not certain is refused."""

from fractions import Fraction
from typing import Any

import pytest
import sympy
from hypothesis import given
from hypothesis import strategies as st
from mpmath.libmp import to_rational

from hsstar.verifier.balls import UnsureError, approximate
from tests.generated import examples

BITS = 100
X, Y = sympy.symbols("x y", real=True)
POINTS = (
    {X: sympy.Rational(1442, 997), Y: sympy.Rational(-1731, 997)},
    {X: sympy.Rational(-6, 997), Y: sympy.Rational(359_600, 997)},
    {X: sympy.Integer(3), Y: sympy.Integer(2)},
)


def parts(formula: Any, point: dict[Any, Any]) -> tuple[Fraction, Fraction]:
    real, imaginary = approximate(formula, point, BITS)
    return Fraction(*to_rational(real)), Fraction(*to_rational(imaginary))


def truth(formula: Any, point: dict[Any, Any]) -> tuple[Fraction, Fraction] | None:
    """The value by sympy, to far more digits; None if it is no finite number."""
    numbers = formula.evalf(80, subs=point, maxn=400).as_real_imag()
    if not all(number.is_Number and number.is_finite for number in numbers):
        return None
    rationals = [sympy.Rational(number) for number in numbers]
    return Fraction(int(rationals[0].p), int(rationals[0].q)), Fraction(
        int(rationals[1].p), int(rationals[1].q)
    )


def assert_near_the_truth(formula: Any, point: dict[Any, Any]) -> None:
    found, right = parts(formula, point), truth(formula, point)
    assert right is not None, formula
    error = max(abs(mine - theirs) for mine, theirs in zip(found, right, strict=True))
    assert error <= max(map(abs, right)) / 2**BITS, formula


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize(
    "formula",
    [
        X + sympy.Rational(1, 3), X**2 - Y**2, 1 / X, X ** sympy.Rational(5, 2), Y ** sympy.Rational(1, 3),
        2**X, X**Y, sympy.exp(X), sympy.exp(sympy.I * X), sympy.log(X), sympy.log(Y), sympy.E**2,
        sympy.log(8, 2, evaluate=False), sympy.sqrt(X + sympy.I), sympy.log(X + 2 * sympy.I),
        (1 + 2 * sympy.I) ** 7, sympy.Abs(X + sympy.I * Y), sympy.sin(X), sympy.cos(X), sympy.tan(X),
        sympy.cot(X), sympy.sec(X), sympy.csc(X), sympy.atan(Y), sympy.pi * X, sympy.Float("2.5") * X,
        sympy.floor(X), sympy.ceiling(Y), sympy.sign(Y) * X, sympy.factorial(20, evaluate=False) * X,
        sympy.binomial(10, 3, evaluate=False) + Y, sympy.Integer(7) ** 3_000,
        sympy.sqrt(1 + sympy.Integer(2) ** -60),
    ],
)  # fmt: skip
def test_a_value_is_as_near_to_the_truth_as_it_says(formula: Any, point: dict[Any, Any]) -> None:
    assert_near_the_truth(formula, point)


@pytest.mark.parametrize(
    "formula",
    [
        X - X * 1 / (1 + sympy.Integer(10) ** -90) * (1 + sympy.Integer(10) ** -90),
        sympy.sqrt(sympy.Integer(10) ** 80 + 1) - sympy.Integer(10) ** 40,
        sympy.Add(sympy.sqrt(2), -sympy.sqrt(2), evaluate=False),
        sympy.log(sympy.exp(sympy.I * sympy.pi, evaluate=False), evaluate=False),
        sympy.floor(sympy.Mul(sympy.sqrt(2), sympy.sqrt(2), evaluate=False), evaluate=False),
        sympy.sign(sympy.Add(sympy.pi, -sympy.pi, evaluate=False), evaluate=False),
        sympy.Pow(0, -1, evaluate=False), sympy.log(0, evaluate=False), sympy.oo, sympy.nan,
        sympy.sin(sympy.Integer(10) ** 30), sympy.exp(sympy.Integer(10) ** 9), sympy.gamma(X),
        sympy.Symbol("z"), sympy.factorial(X - 7, evaluate=False), sympy.Float("inf"), sympy.Function("f")(X),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_refused(formula: Any) -> None:
    with pytest.raises(UnsureError):
        parts(formula, POINTS[2])


K, N = sympy.symbols("k n", real=True)


@pytest.mark.parametrize(
    "term", [K * X, X**K, sympy.sqrt(K) / N, sympy.binomial(N, K), (-1) ** K * K * sympy.pi]
)
def test_a_sum_or_product_over_few_integers_is_that_of_its_terms(term: Any) -> None:
    point = {X: sympy.Rational(1442, 997), N: sympy.Integer(5)}
    written_out = [term.subs(K, number) for number in range(2, 6)]
    for large, small in ((sympy.Sum, sympy.Add), (sympy.Product, sympy.Mul)):
        mine, theirs = parts(large(term, (K, 2, N)), point), parts(small(*written_out), point)
        error = max(abs(one - other) for one, other in zip(mine, theirs, strict=True))
        assert error <= max(map(abs, theirs)) / 2 ** (BITS - 2)


@pytest.mark.parametrize("limits", [(K, 1, sympy.oo), (K, 5, 1), (K, 1, 1_000), (K, -2, 2), (K, 1, X)])
def test_a_sum_over_no_or_many_integers_is_refused(limits: tuple[Any, ...]) -> None:
    with pytest.raises(UnsureError):
        parts(sympy.Sum(K * sympy.sqrt(2), limits), POINTS[0])


def built(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    functions = st.sampled_from(
        [
            sympy.sin,
            sympy.cos,
            sympy.tan,
            sympy.exp,
            sympy.log,
            sympy.sqrt,
            sympy.Abs,
            sympy.atan,
            sympy.floor,
        ]
    )
    exponents = st.sampled_from([-2, -1, 2, 3, sympy.S.Half, sympy.Rational(-1, 3), X])
    return st.one_of(
        st.builds(lambda left, right: sympy.Add(left, right), inside, inside),
        st.builds(lambda left, right: sympy.Mul(left, right), inside, inside),
        st.builds(lambda base, exponent: sympy.Pow(base, exponent, evaluate=False), inside, exponents),
        st.builds(lambda function, argument: function(argument), functions, inside),
    )


ATOMS = st.sampled_from([X, Y, sympy.pi, sympy.E, sympy.I, *map(sympy.Integer, (-3, -1, 2, 10**12))])


@examples(60)
@given(st.recursive(ATOMS, built, max_leaves=6), st.sampled_from(POINTS))
def test_generated_formulas_are_near_the_truth_or_refused(formula: Any, point: dict[Any, Any]) -> None:
    try:
        parts(formula, point)
    except UnsureError:
        return
    assert_near_the_truth(formula, point)
