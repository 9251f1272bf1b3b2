"""Statistics of evaluations: pass@k, majority vote, standard errors, and paired comparisons."""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from statistics import stdev

from hsstar.domain.errors import BadInputError

Resample = Callable[[Sequence[float]], Sequence[float]]
"""Draws as many values as it gets, with replacement."""

BOOTSTRAP_RESAMPLES = 2_000
CONFIDENCE = 0.95
_PRECISION, _FRACTION_TERMS = 1e-14, 500  # of the continued fraction
_HALVINGS = 200  # of the bracket around a quantile


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
    """Return 1 − C(n−c, k) / C(n, k), the unbiased estimate of the chance that one of `k` samples is correct.

    n samples are drawn, c are correct. Raise BadInputError unless 0 ≤ c ≤ n and 1 ≤ k ≤ n.
    """
    if not (0 <= correct <= drawn and 1 <= k <= drawn):
        raise BadInputError(f"pass@{k} is not defined for {correct} correct of {drawn} samples")
    return 1 - math.comb(drawn - correct, k) / math.comb(drawn, k)


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean of one value per problem and its standard error (0 for a single problem)."""
    if not values:
        raise BadInputError("a mean needs at least one problem")
    error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Estimate(math.fsum(values) / len(values), error)


def majority(votes: Sequence[Hashable | None]) -> Hashable | None:
    """Return the most frequent answer; of equally frequent ones the first. None casts no vote."""
    counts = Counter(vote for vote in votes if vote is not None)
    return max(counts, key=lambda vote: counts[vote], default=None)  # dicts keep their order


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided p-value of McNemar's exact test for problems that only one model solves."""
    discordant = only_first + only_second
    tail = sum(math.comb(discordant, wins) for wins in range(min(only_first, only_second) + 1))
    return float(min(1.0, 2 * tail / 2**discordant))


def paired_bootstrap(
    differences: Sequence[Sequence[float]], resample: Resample, resamples: int = BOOTSTRAP_RESAMPLES
) -> ConfidenceInterval:
    """Return a percentile interval for the unweighted mean over benchmarks of their mean difference.

    Problems are drawn with replacement within each benchmark, both models' results of a problem together.
    `differences` holds, per benchmark, the second minus the first accuracy of each problem; BadInputError
    is raised without a benchmark, or with one without problems.
    """
    if not differences or not all(differences):
        raise BadInputError("a paired comparison needs problems that both models have")
    means = sorted(
        math.fsum(math.fsum(resample(values)) / len(values) for values in differences) / len(differences)
        for _ in range(resamples)
    )
    outside = round((1 - CONFIDENCE) / 2 * resamples)  # as many below the interval as above it
    return ConfidenceInterval(means[outside], means[-1 - outside])


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean of `count` values; `standard_error` is deviation / √count, None for a single value."""

    value: float
    standard_error: float | None
    count: int


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean of paired differences with its confidence interval; a single pair has no interval (None)."""

    mean: Mean
    low: float | None
    high: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside the interval; False without one."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def mean_of(values: Sequence[float]) -> Mean:
    """Return mean and standard error of values; raise BadInputError without any."""
    if not values:
        raise BadInputError("the mean of no values is not defined")
    count = len(values)
    mean = math.fsum(values) / count
    if count == 1:
        return Mean(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    return Mean(mean, math.sqrt(variance / count), count)


def paired_difference(values: Sequence[float], reference: Sequence[float], confidence: float) -> Difference:
    """Return the mean of `values − reference` with Student's t interval; both have shape (pairs,).

    Raise BadInputError if they differ in length or are empty.
    """
    if len(values) != len(reference):
        raise BadInputError(f"{len(values)} values cannot be paired with {len(reference)}")
    mean = mean_of([value - other for value, other in zip(values, reference, strict=True)])
    if mean.standard_error is None:
        return Difference(mean, None, None)
    half = student_quantile((1 + confidence) / 2, mean.count - 1) * mean.standard_error
    return Difference(mean, mean.value - half, mean.value + half)


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t with `freedom` degrees.

    Raise BadInputError if the probability is not within (0, 1), or `freedom` is below 1.
    """
    if not 0 < probability < 1 or freedom < 1:
        raise BadInputError(f"t has no quantile for p = {probability} and {freedom} degrees of freedom")
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
    """Return the probability that Student's t with `freedom` degrees is below a value."""
    tail = _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + value * value)) / 2
    return 1 - tail if value > 0 else tail


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, 1 - x)  # the fraction converges fast there
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    return math.exp(logarithm) / (a * _beta_fraction(a, b, x))


def _beta_fraction(a: float, b: float, x: float) -> float:
    """Evaluate 1 + d₁/(1 + d₂/(1 + …)) of the incomplete beta function by Lentz's method."""
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
