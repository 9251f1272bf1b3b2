"""The pictures of a run as values: flow, distributions, ledger, training curves, jobs."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.store.database import Database
from hsstar.store.read import figures
from hsstar.store.read.figures import BUCKETS, JobCount, LedgerEntry, LevelFlow, TrainingStep
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class Distribution:
    """A histogram: how much of each series falls into each of its buckets."""

    series: dict[str, list[int]]
    upper: float  # where the last bucket ends; the first begins at 0

    def bounds(self, bucket: int) -> tuple[float, float]:
        """Return where a bucket begins and ends."""
        return self.upper * bucket / BUCKETS, self.upper * (bucket + 1) / BUCKETS

    @property
    def total(self) -> int:
        """How much there is in all."""
        return sum(map(sum, self.series.values()))


def level_flow(database: Database, run: Run, iteration: int) -> list[LevelFlow]:
    """Return how an iteration spreads problems, budget and pairs over the levels."""
    with database.begin() as connection:
        return figures.flow(connection, run.id, iteration)


def load_distributions(
    database: Database, run: Run, iteration: int | None, *, of_samples: bool = True
) -> dict[str, Distribution]:
    """Return the histograms of an iteration (None: of all) that have anything, by figure.

    Those of problems take a fraction of the time of those of samples.
    """
    with database.begin() as connection:
        rows = figures.problem_distributions(connection, run.id, iteration)
        if of_samples:
            rows += figures.sample_distributions(connection, run.id, iteration)
    series: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * BUCKETS))
    upper: dict[str, float] = {}
    for row in rows:
        series[row.figure][row.series][row.bucket] += row.number
        upper[row.figure] = row.upper
    return {figure: Distribution(dict(counts), upper[figure]) for figure, counts in series.items()}


def budget_ledger(database: Database, run: Run, iteration: int) -> list[LedgerEntry]:
    """Return what the budget of an iteration went to."""
    with database.begin() as connection:
        return figures.ledger(connection, run.id, iteration)


@dataclass(frozen=True, slots=True)
class SidesOfPairs:
    """The mean tokens of the two sides of the pairs of an iteration; None without pairs."""

    policy: int
    chosen: float | None
    rejected: float | None


def sides_of_pairs(ledger: Sequence[LedgerEntry], iteration: int) -> SidesOfPairs:
    """Return how long chosen and rejected responses of an iteration are, from its ledger."""
    chosen, rejected = sum(row.chosen for row in ledger), sum(row.rejected for row in ledger)
    return SidesOfPairs(
        iteration,
        sum(row.tokens_chosen for row in ledger) / chosen if chosen else None,
        sum(row.tokens_rejected for row in ledger) / rejected if rejected else None,
    )


def training_curves(database: Database, run: Run) -> list[TrainingStep]:
    """Return the optimiser steps of a run, in order."""
    with database.begin() as connection:
        return figures.training_steps(connection, run.id)


def job_counts(database: Database, run: Run) -> list[JobCount]:
    """Return the jobs of a run by kind."""
    with database.begin() as connection:
        return figures.job_counts(connection, run.id)
