r"""What a formula takes for granted, and two formulas compared under it.

- Odd roots of negative numbers are real: \sqrt[3]{-8} is -2.
- A formula is compared where its even roots and logarithms are real; a variable below an even root, alone or
  as a factor of odd degree, is positive: \sqrt{a}\sqrt{b} is \sqrt{ab}, but \sqrt{x^2} is not x.
- n, m, k, l and j are integers if a formula has what only integers give a value or a pattern: (-1)^{2n} is 1.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import chain, permutations
from typing import Any

import sympy

from hsstar.verifier.evaluation import (
    BINDING,
    NO_VALUE,
    POINTS_NEEDED,
    Complex,
    Point,
    certain_value,
    integer_points,
    near,
    points,
    positive_points,
    surely_equal,
    value,
)

_INTEGERS = frozenset("nmkljNMK")
_WHOLE = (sympy.factorial, sympy.factorial2, sympy.binomial, sympy.floor, sympy.ceiling, sympy.Mod)
_PERIODIC = (sympy.sin, sympy.cos, sympy.tan, sympy.cot)
_CONSTANT = re.compile(r"[cC](?:_\{?\d\}?)?")
_ANY_CONSTANT = re.compile(r"[A-DKabck](?:_\{?\d\}?)?")
_ANY_OF_SEVERAL = re.compile(r"(?:[A-HKMNa-dghkmn]|alpha|beta|lambda|mu)(?:_\{?\d\}?)?")
_VARIABLE = re.compile(r"[p-z]|theta")
_MOST_CONSTANTS = 3
_MORE_POINTS = 12
_INTEGER_POINTS = 10


def equal_for_reals(mine: Any, theirs: Any) -> bool:
    """Decide whether two formulas with roots or logarithms have the same values where all those are real."""
    both = sympy.Tuple(mine, theirs)
    powers, arguments = both.atoms(sympy.Pow), [logarithm.args[0] for logarithm in both.atoms(sympy.log)]
    bases = [power.base for power in powers if _is_even_root(power)]
    if not (bases or arguments or any(map(_is_odd_root, powers))) or both.has(sympy.I):
        return False
    left, right = with_real_roots(mine), with_real_roots(theirs)
    if (left, right) == (mine, theirs) and not (bases or arguments):
        return False
    positive = set().union(*map(_positive_factors, bases))
    not_negative = [with_real_roots(part) for part in (*bases, *arguments)]
    symbols = sorted(both.free_symbols, key=str)
    candidates: Iterable[Point] = [{}]
    if symbols:
        candidates = chain(points(both, True), positive_points(symbols, _MORE_POINTS))

    def is_inside(point: Point) -> bool:
        if any(point[symbol] <= 0 for symbol in positive):
            return False
        sizes = (value(part, point) for part in not_negative)
        return all(size is not None and not size.imaginary and size.real >= 0 for size in sizes)

    return _agree(left, right, filter(is_inside, candidates), POINTS_NEEDED if symbols else 1)


def equal_for_integers(mine: Any, theirs: Any) -> bool | None:
    """Decide whether two formulas agree where n, m, k … are integers; None if they need not be integers."""
    both = sympy.Tuple(mine, theirs)
    integers = _integers_of(both)
    if not integers:
        return None
    whole = integer_points(sorted(integers, key=str), _INTEGER_POINTS)
    others = positive_points(sorted(both.free_symbols - integers, key=str), _INTEGER_POINTS)
    agreeing = 0
    for point in (general | integer for general, integer in zip(others, whole, strict=True)):
        left, right = _at_integers(mine, point), _at_integers(theirs, point)
        if left is None or right is None:
            continue
        if not near(left, right, exact=True):
            return False
        agreeing += 1
    return agreeing >= POINTS_NEEDED


def has_symbolic_bounds(formula: Any) -> bool:
    """Decide whether a formula has a sum or product up to a variable."""
    return bool(_symbols_of_bounds(formula))


def renamings(mine: Any, theirs: Any) -> Iterator[Any]:
    r"""Yield a formula as it is, and with its free constants and its integer named as in the other.

    Constants of integration are c, C, C_1, C_2 … in any order, or other letters, A, B, K, a …, beside a
    variable of both: on one side, or on both in a general solution, a\cos x+b\sin x. An integer parameter is
    a multiple of π: k\pi.
    """
    yield mine
    my_constants, their_constants = _matching_constants(mine, theirs)
    if my_constants and len(my_constants) == len(their_constants) <= _MOST_CONSTANTS:
        for order in permutations(their_constants):
            if order != tuple(my_constants):
                yield mine.subs(dict(zip(my_constants, order, strict=True)), simultaneous=True)
    mine_alone, theirs_alone = (
        mine.free_symbols - theirs.free_symbols,
        theirs.free_symbols - mine.free_symbols,
    )
    if len(mine_alone) == len(theirs_alone) == 1:
        [old], [new] = mine_alone, theirs_alone
        if {old.name, new.name} <= _INTEGERS and (mine.diff(old) / sympy.pi).is_rational:
            yield mine.subs(old, new)


def without_nonzero_factors(formula: Any) -> Any:
    """Return a formula without factors that are zero nowhere, e^x, x^2+1; the very same if it has none."""
    if all(map(_is_linear, sympy.Add.make_args(formula))):
        return formula
    try:
        factors = sympy.Mul.make_args(sympy.factor(formula))
    except (sympy.PolynomialError, NotImplementedError, ValueError):
        return formula
    others = [factor for factor in factors if not (factor.free_symbols and factor.is_nonzero)]
    return formula if len(others) == len(factors) else sympy.Mul(*others)


def with_real_roots(formula: Any) -> Any:
    """Write the odd roots of a formula so that those of negative numbers are real."""

    def real_root(base: Any, exponent: Any) -> Any:
        root = sympy.sign(base) * sympy.Abs(base) ** sympy.Rational(1, exponent.q)
        return root**exponent.p

    return formula.replace(_is_odd_root, lambda power: real_root(power.base, power.exp))


def _agree(left: Any, right: Any, chosen: Iterable[Point], needed: int) -> bool:
    """Decide whether two formulas have the same real value at all points where both have one."""
    agreeing = 0
    for point in chosen:
        mine, theirs = value(left, point), value(right, point)
        if mine is None or theirs is None or mine.imaginary or theirs.imaginary:
            continue
        if not near(mine, theirs, exact=True):
            return False
        if not agreeing and not surely_equal(left, right, point, mine.size()):
            return False
        agreeing += 1
    return agreeing >= needed


def _is_linear(term: Any) -> bool:
    """Decide whether a term is a number, a variable, or the product of both."""
    factors = sympy.Mul.make_args(term)
    return sum(not factor.is_Number for factor in factors) <= 1 and all(
        factor.is_Number or factor.is_Symbol for factor in factors
    )


def _is_odd_root(part: Any) -> bool:
    return bool(part.is_Pow and part.exp.is_Rational and part.exp.q % 2 and part.exp.q > 1)


def _is_even_root(part: Any) -> bool:
    return bool(part.exp.is_Rational and part.exp.q % 2 == 0)


def _positive_factors(base: Any) -> set[Any]:
    """Return the variables that are factors of odd degree of what is below an even root."""
    factors = sympy.Mul.make_args(base)
    powers = [factor.as_base_exp() for factor in factors if factor.free_symbols]
    if not all(variable.is_Symbol and exponent.is_Integer for variable, exponent in powers):
        return set()
    return {variable for variable, exponent in powers if exponent % 2}


def _constants(formula: Any) -> list[Any]:
    return sorted((symbol for symbol in formula.free_symbols if _CONSTANT.fullmatch(symbol.name)), key=str)


def _matching_constants(mine: Any, theirs: Any) -> tuple[list[Any], list[Any]]:
    """Return the constants of two formulas, by any letters in the one whose letters are not in the other."""
    my_constants, their_constants = _constants(mine), _constants(theirs)
    common = mine.free_symbols & theirs.free_symbols
    if not any(_VARIABLE.fullmatch(symbol.name) for symbol in common):
        return my_constants, their_constants
    mine_alone, theirs_alone = mine.free_symbols - common, theirs.free_symbols - common
    if mine_alone and not my_constants and set(their_constants) == theirs_alone:
        return _if_constants(mine_alone), their_constants
    if theirs_alone and not their_constants and set(my_constants) == mine_alone:
        return my_constants, _if_constants(theirs_alone)
    are_others = len(mine_alone) > 1 and not (my_constants or their_constants)
    if are_others and _is_general(mine, mine_alone) and _is_general(theirs, theirs_alone):
        return _if_constants(mine_alone), _if_constants(theirs_alone)
    return my_constants, their_constants


def _is_general(formula: Any, constants: set[Any]) -> bool:
    """Decide whether a formula is like the general solution of an equation: waves or powers of e, with
    constants in terms of their own.
    """
    own = all(not formula.diff(constant).free_symbols & constants for constant in constants)
    return own and bool(formula.has(sympy.exp, *_PERIODIC))


def _if_constants(symbols: set[Any]) -> list[Any]:
    name = _ANY_CONSTANT if len(symbols) == 1 else _ANY_OF_SEVERAL
    named = all(name.fullmatch(symbol.name) for symbol in symbols)
    return sorted(symbols, key=str) if named else []


def _symbols_of_bounds(formula: Any) -> set[Any]:
    limits = (limits for term in formula.atoms(sympy.Sum, sympy.Product) for limits in term.limits)
    bounds = (bound for _, *bounds in limits for bound in bounds)
    symbols: set[Any] = {symbol for bound in bounds for symbol in bound.free_symbols}
    return symbols & formula.free_symbols if symbols else symbols


def _integers_of(formula: Any) -> set[Any]:
    """Return the variables that are integers: bounds of sums, and n, m, k … where something asks for it."""
    bounds = _symbols_of_bounds(formula)
    named = {symbol for symbol in formula.free_symbols if symbol.name in _INTEGERS}
    if bounds or any(part.free_symbols & named for part in formula.atoms(*_WHOLE)):
        return bounds | named
    powers = formula.atoms(sympy.Pow)
    alternates = any(
        (power.base.is_negative or power.base == sympy.I) and power.exp.free_symbols & named
        for power in powers
    )
    turns = any(
        wave.args[0].has(sympy.pi) and wave.free_symbols & named for wave in formula.atoms(*_PERIODIC)
    )
    return named if alternates or turns else set()


def _at_integers(formula: Any, point: Point) -> Complex | None:
    evaluate = certain_value if formula.has(*BINDING) else value
    if number := evaluate(formula, point):
        return number
    try:
        return value(formula.subs(point).doit(), {})
    except NO_VALUE:
        return None
