"""How many problems and pairs other thresholds would give each level, from the samples that are there."""

from collections.abc import Iterable
from dataclasses import dataclass

from hsstar.domain.difficulty import Signal
from hsstar.store.database import Database
from hsstar.store.read.thresholds import ThresholdGroup, threshold_groups
from hsstar.store.runs import Run

HUNDREDTHS = 101
"""Thresholds from 0 to 1."""


@dataclass(frozen=True, slots=True)
class LevelCounts:
    """Counts by threshold in hundredths: outliers by τ_l, inliers by τ_h; the rest of all is boundary."""

    all: int
    outlier: tuple[int, ...]
    inlier: tuple[int, ...]

    def at(self, low: int, high: int) -> dict[str, int]:
        """Return the counts by level for thresholds in hundredths."""
        outlier, inlier = self.outlier[low], self.inlier[high]
        return {"inlier": inlier, "boundary": self.all - inlier - outlier, "outlier": outlier}


@dataclass(frozen=True, slots=True)
class ThresholdCounts:
    """Problems, and the pairs that their samples allow, by thresholds.

    Attributes:
        further: re-samples that the budget leaves after the pre-samples.
    """

    problems: LevelCounts
    pairs: LevelCounts
    further: int


def count_thresholds(database: Database, run: Run, iteration: int) -> ThresholdCounts | None:
    """Return what thresholds would do in an iteration; None before its labels."""
    with database.begin() as connection:
        groups = threshold_groups(connection, run.id, iteration, run.recipe.pairs.at_most_per_problem)
    if not groups:
        return None
    signal = run.recipe.difficulty.signal
    sampling = run.recipe.sampling
    problems = _counts([(group, group.problems) for group in groups], signal)
    pairs = _counts([(group, group.pairs) for group in groups], signal)
    return ThresholdCounts(problems, pairs, (sampling.n - sampling.n_p) * problems.all)


def _counts(groups: Iterable[tuple[ThresholdGroup, int]], signal: Signal) -> LevelCounts:
    counted = list(groups)
    outliers = [(group.below, count) for group, count in counted if _may_be(group, "none", signal)]
    inliers = [(group.above, count) for group, count in counted if _may_be(group, "all", signal)]
    ignores_quality = signal is Signal.ACCURACY
    return LevelCounts(
        sum(count for _, count in counted),
        tuple(
            sum(count for below, count in outliers if ignores_quality or (below is not None and below < k))
            for k in range(HUNDREDTHS)
        ),
        tuple(
            sum(count for above, count in inliers if ignores_quality or (above is not None and above > k))
            for k in range(HUNDREDTHS)
        ),
    )


def _may_be(group: ThresholdGroup, right: str, signal: Signal) -> bool:
    return signal is Signal.REWARD or group.right == right
