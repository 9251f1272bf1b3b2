"""Samples go where the most worth of preference pairs is expected of them."""

from collections.abc import Sequence
from itertools import pairwise

from hsstar.domain.allocation.belief import Beliefs
from hsstar.domain.allocation.policy import Settings, State


def gains(state: State, most: int, beliefs: Beliefs, settings: Settings) -> Sequence[float]:
    """Return the slopes of the least concave majorant of the expected worth of m further samples.

    One further sample of a balanced problem makes no pair, the next one does with the chance of a half: so
    what counts is the best rate that several samples together reach.
    """
    return majorant(expected_worth(state, most, beliefs, settings))


def worth_of_pairs(number: int, settings: Settings) -> float:
    """Return what so many pairs of one problem are worth."""
    match settings.worth:
        case "cap":
            return float(min(number, settings.pairs))
        case "count":
            return float(number)
        case "fading":
            worth, weight = 0.0, 1.0
            for _ in range(number):
                worth += weight
                weight *= settings.ratio
            return worth


def expected_worth(state: State, most: int, beliefs: Beliefs, settings: Settings) -> list[float]:
    """Return V(m) = E[U(pairs after m further samples)] − U(pairs now), for m = 0 … most."""
    counts = (state.correct, state.incorrect)
    now = worth_of_pairs(min(counts), settings)
    found = [0.0]
    ways = [1]  # Pascal's row of m
    for number in range(1, most + 1):
        ways = [1, *(one + other for one, other in pairwise(ways)), 1]
        value = 0.0
        for right, many in enumerate(ways):
            wrong = number - right
            pairs = min(state.correct + right, state.incorrect + wrong)
            value += many * beliefs.moment(counts, right, wrong) * worth_of_pairs(pairs, settings)
        found.append(value - now)
    return found


def majorant(values: Sequence[float]) -> list[float]:
    """Return the slopes of the least concave function that is nowhere below `values`, from values[0] on."""
    slopes: list[float] = []
    at, last = 0, len(values) - 1
    while at < last:
        best, length = 0.0, last - at
        for ahead in range(1, last - at + 1):
            rate = (values[at + ahead] - values[at]) / ahead
            if rate >= best:
                best, length = rate, ahead
        before = slopes[-1] if slopes else best
        slopes += [min(best, before)] * length  # the last bit of a quotient may rise
        at += length
    return slopes
