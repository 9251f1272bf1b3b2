"""Figures of an evaluation as formulas: pass@k, the majority vote, errors, and paired comparisons."""

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
class Interval:
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
) -> Interval:
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
    return Interval(_quantile(means, outside), _quantile(means, 1 - outside))


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)]
