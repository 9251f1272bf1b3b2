"""Figures of an evaluation as formulas: pass@k, the majority vote, errors, and paired comparisons."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil, comb, fsum, sqrt
from statistics import stdev

from hsstar.domain.errors import BadInputError

Resample = Callable[[Sequence[float]], Sequence[float]]
"""Draws as many values as it is given, with replacement."""

BOOTSTRAP_RESAMPLES = 2_000
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over problems with its standard error."""

    mean: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A confidence interval."""

    low: float
    high: float


def pass_at_k(drawn: int, correct: int, k: int) -> float:
    """The unbiased estimate of the chance that one of `k` samples is correct: 1 − C(n−c, k) / C(n, k).

    Args:
        drawn: n, the samples that there are.
        correct: c, of them.
        k: at most n.

    Raises:
        BadInputError: the three do not fit each other.
    """
    if not (0 <= correct <= drawn and 1 <= k <= drawn):
        raise BadInputError(f"pass@{k} cannot be told from {correct} correct of {drawn} samples")
    return 1 - comb(drawn - correct, k) / comb(drawn, k)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value per problem, and the standard error of this mean (0 for a single problem).

    Raises:
        BadInputError: there is no value.
    """
    if not values:
        raise BadInputError("a mean needs at least one problem")
    error = stdev(values) / sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(fsum(values) / len(values), error)


def majority(votes: Sequence[Hashable | None]) -> Hashable | None:
    """What most samples answer; of several with equally many votes, the one that was said first.

    Args:
        votes: the class of each sample's answer, in the order of the slots; None casts no vote.
    """
    counts = Counter(vote for vote in votes if vote is not None)
    return max(counts, key=lambda vote: counts[vote], default=None)  # the first of equals, as inserted


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """The two-sided exact McNemar test: how likely is a split of the discordant problems as uneven as this.

    Args:
        only_first: problems that only the first model solves.
        only_second: problems that only the second model solves.
    """
    discordant = only_first + only_second
    tail = sum(comb(discordant, wins) for wins in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**discordant))


def paired_bootstrap(
    differences: Sequence[Sequence[float]], resample: Resample, resamples: int = BOOTSTRAP_RESAMPLES
) -> ConfidenceInterval:
    """A percentile interval for the unweighted mean over benchmarks of their mean difference.

    Problems are drawn with replacement within each benchmark, both models' results of a problem together.

    Args:
        differences: for each benchmark, second minus first accuracy of each problem.
        resample: the chance that is taken.
        resamples: how often.

    Raises:
        BadInputError: there is no benchmark, or one without problems.
    """
    if not differences or not all(differences):
        raise BadInputError("a paired comparison needs problems that both models were given")
    means = sorted(
        fsum(fsum(resample(each)) / len(each) for each in differences) / len(differences)
        for _ in range(resamples)
    )
    outside = (1 - CONFIDENCE) / 2
    return ConfidenceInterval(_quantile(means, outside), _quantile(means, 1 - outside))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


_PRECISION = 1e-14


_FRACTION_TERMS = 500


_HALVINGS = 200


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of some values.

    Attributes:
        value: the mean.
        standard_error: sample standard deviation / √count; None for a single value.
        count: how many values there are.
    """

    value: float
    standard_error: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences with its confidence interval; None where one pair allows none."""

    mean: Mean
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside of the interval; False where there is none."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_of(values: Sequence[float]) -> Mean:
    """Mean and standard error of values, shape (count,).

    Raises:
        BadInputError: there is no value.
    """
    if not values:
        raise BadInputError("the mean of no values is not defined")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Mean(mean, math.sqrt(variance / count), count)


def paired_difference(values: Sequence[float], reference: Sequence[float], confidence: float) -> Difference:
    """The mean of `values − reference`, pair by pair, with Student's t interval.

    Args:
        values: shape (pairs,).
        reference: shape (pairs,), in the same order.
        confidence: of the interval, within (0, 1).

    Raises:
        BadInputError: the two have different lengths, or are empty.
    """
    if len(values) != len(reference):
        raise BadInputError(f"{len(values)} values cannot be paired with {len(reference)}")
    mean = mean_of([value - other for value, other in zip(values, reference, strict=True)])
    if mean.standard_error is None:
        return Difference(mean, None, None)
    half = student_quantile((1 + confidence) / 2, mean.count - 1) * mean.standard_error
    return Difference(mean, mean.value - half, mean.value + half)


def student_quantile(probability: float, freedom: int) -> float:
    """The value that Student's t with `freedom` degrees stays below with this probability.

    Raises:
        BadInputError: the probability is not within (0, 1), or there is no degree of freedom.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise BadInputError(f"there is no t quantile for p = {probability} and {freedom} degrees of freedom")
    if probability < 0.5:
        return -student_quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while student_cumulative(high, freedom) < probability:
        high *= 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if student_cumulative(middle, freedom) < probability else (low, middle)
    return (low + high) / 2


def student_cumulative(value: float, freedom: int) -> float:
    """The probability that Student's t with `freedom` degrees is below a value."""
    tail = _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2
    return 1 - tail if value > 0 else tail


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)  # there the fraction converges fast
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * _beta_fraction(a, b, x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """1 + d₁/(1 + d₂/(1 + …)) of the incomplete beta function, evaluated by Lentz's method."""
    value, numerator, denominator = 1.0, 1.0, 0.0
    for term in range(1, _FRACTION_TERMS):
        m = term // 2
        if term % 2:
            d = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            d = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / (1 + d * denominator)
        numerator = 1 + d / numerator
        value *= numerator * denominator
        if abs(numerator * denominator - 1) < _PRECISION:
            break
    return value
