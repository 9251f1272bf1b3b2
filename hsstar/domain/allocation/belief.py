"""What the verdicts of a problem say of its pass rate p: a distribution over a grid.

Only + − × ÷ in one fixed order and powers by repeated multiplication, so that every machine computes the
same bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import cached_property
from itertools import pairwise

GRID: tuple[float, ...] = tuple(percent / 100 for percent in (0, 1, 3, *range(5, 100, 5), 97, 99, 100))
"""The pass rates that count as possible."""
FLAT = (1.0,) * len(GRID)
_ROUNDS = 50  # of expectation maximisation
_EXACT = Context(prec=30)

Counts = tuple[int, int]
"""Correct and incorrect samples of a problem."""


@dataclass(frozen=True)
class Beliefs:
    """The beliefs about all problems of a round that share a prior, one weight for each pass rate of `GRID`.

    `most` bounds the samples of a problem, those to come included.
    """

    prior: Sequence[float]
    most: int

    @cached_property
    def _evidence(self) -> list[list[float]]:
        """Σ π_g g^x (1−g)^y for every x + y ≤ 2 most + 3."""
        size = 2 * self.most + 4
        table = [[0.0] * (size - x) for x in range(size)]
        for weight, rate in zip(self.prior, GRID, strict=True):
            right = weight
            for row in table:
                value = right
                for y in range(len(row)):
                    row[y] += value
                    value *= 1 - rate
                right *= rate
        return table

    def moment(self, counts: Counts, x: int, y: int) -> float:
        """Return E[p^x (1−p)^y] for a problem with these counts; x + y ≤ most + 3."""
        correct, incorrect = counts
        return self._evidence[correct + x][incorrect + y] / self._evidence[correct][incorrect]

    def weights(self, counts: Counts) -> list[float]:
        """Return the probability of each pass rate of `GRID`."""
        found = zip(self.prior, _likelihood(counts), strict=True)
        return _normalised([weight * value for weight, value in found])


def _normalised(weights: Sequence[float]) -> list[float]:
    total = 0.0
    for weight in weights:
        total += weight
    return [weight / total for weight in weights]


def empirical_prior(problems: Mapping[Counts, float]) -> list[float]:
    """Return the prior that explains best how many problems have each count (empirical Bayes).

    The numbers of problems may be weights. Without any the prior is flat.
    """
    prior = [1.0 / len(GRID)] * len(GRID)
    states = sorted((counts, number) for counts, number in problems.items() if number > 0)
    if not states:
        return prior
    likelihoods = [(_likelihood(counts), number) for counts, number in states]
    for _ in range(_ROUNDS):
        share = [0.0] * len(GRID)
        everything = 0.0
        for likelihood, number in likelihoods:
            total = 0.0
            for weight, value in zip(prior, likelihood, strict=True):
                total += weight * value
            for place, (weight, value) in enumerate(zip(prior, likelihood, strict=True)):
                share[place] += number * (weight * value / total)
            everything += number
        prior = [value / everything for value in share]
    return prior


def _likelihood(counts: Counts) -> list[float]:
    found = []
    for rate in GRID:
        value = 1.0
        for _ in range(counts[0]):
            value *= rate
        for _ in range(counts[1]):
            value *= 1 - rate
        found.append(value)
    return found


def beta_prior(a: float, b: float) -> list[float]:
    """Return a Beta distribution on `GRID`: the density in the middle of a rate's cell times its width."""
    edges = [0.0, *((low + high) / 2 for low, high in pairwise(GRID)), 1.0]
    found = []
    for low, high in pairwise(edges):
        middle = Decimal((low + high) / 2)
        exponent = _EXACT.add(
            _EXACT.multiply(Decimal(a) - 1, _EXACT.ln(middle)),
            _EXACT.multiply(Decimal(b) - 1, _EXACT.ln(1 - middle)),
        )
        found.append(float(_EXACT.multiply(_EXACT.exp(exponent), Decimal(high - low))))
    return _normalised(found)
