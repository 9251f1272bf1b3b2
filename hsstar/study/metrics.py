"""Figures of a study: accuracies by policy, paired differences, use of the budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.domain.statistics import Difference, Mean, mean_of, paired_difference
from hsstar.store.database import Database
from hsstar.store.read import studies
from hsstar.store.read.studies import IterationMetrics
from hsstar.study.document import Study, StudyRun


@dataclass(frozen=True, slots=True)
class RunMetrics:
    """One finished run: its iterations, and the AUC of its reward model in each, None without rewards."""

    run: StudyRun
    iterations: tuple[IterationMetrics, ...]

    @property
    def accuracies(self) -> list[float]:
        """Held-out accuracy of M_0, M_1 …; shape (iterations + 1,)."""
        return [
            self.iterations[0].accuracy_before,
            *(iteration.accuracy_after for iteration in self.iterations),
        ]

    @property
    def pairs_per_sample(self) -> float:
        """Preference pairs per drawn sample."""
        return sum(i.pairs for i in self.iterations) / sum(i.drawn for i in self.iterations)

    @property
    def share_trained(self) -> float:
        """Share of the budget that became training data; each pair has two samples, each sample one pair."""
        return 2 * sum(i.pairs for i in self.iterations) / sum(i.budget for i in self.iterations)


@dataclass(frozen=True, slots=True)
class StrategyMetrics:
    """One strategy over the seeds."""

    strategy: str
    accuracies: tuple[Mean, ...]  # per policy M_0, M_1 …
    differences: tuple[Difference, ...]  # to the reference, paired by seed, per policy
    pairs: tuple[Mean, ...]  # per iteration
    boundary: tuple[Mean, ...]  # share of the problems that were labelled so, per iteration
    pairs_per_sample: Mean
    share_trained: Mean
    distinct_pairs: Mean  # these three: summed over the iterations
    rows_trained: Mean
    optimiser_steps: Mean
    spent: Mean  # samples drawn, as a share of the budget


def load_metrics(database: Database, study: Study, seeds: Sequence[int]) -> list[RunMetrics]:
    """Load the figures of the study's runs under these seeds, all of which are finished."""
    wanted = [run for run in study.runs if run.seed in seeds]
    with database.begin() as connection:
        iterations = studies.iteration_metrics(connection, [run.name for run in wanted])
    count = study.document.iterations
    return [
        RunMetrics(run, tuple(row for row in iterations if row.run == run.name)[:count]) for run in wanted
    ]


def compare(study: Study, metrics: Sequence[RunMetrics]) -> list[StrategyMetrics]:
    """Compare every strategy with the reference over the seeds, in the order of the study file."""
    by_strategy = {
        strategy: [run for run in metrics if run.run.strategy == strategy]
        for strategy in study.document.strategies
    }
    reference = by_strategy[study.document.reference]
    return [
        _strategy(strategy, own, reference, study.document.confidence)
        for strategy, own in by_strategy.items()
    ]


def _strategy(
    strategy: str, own: list[RunMetrics], reference: list[RunMetrics], confidence: float
) -> StrategyMetrics:
    policies = range(len(own[0].accuracies))
    numbers = range(len(own[0].iterations))
    return StrategyMetrics(
        strategy,
        tuple(mean_of([run.accuracies[t] for run in own]) for t in policies),
        tuple(
            paired_difference(
                [run.accuracies[t] for run in own], [run.accuracies[t] for run in reference], confidence
            )
            for t in policies
        ),
        tuple(mean_of([run.iterations[t].pairs for run in own]) for t in numbers),
        tuple(mean_of([_boundary_share(run.iterations[t]) for run in own]) for t in numbers),
        mean_of([run.pairs_per_sample for run in own]),
        mean_of([run.share_trained for run in own]),
        mean_of([sum(i.distinct_pairs for i in run.iterations) for run in own]),
        mean_of([sum(i.rows_trained for i in run.iterations) for run in own]),
        mean_of([sum(i.optimiser_steps for i in run.iterations) for run in own]),
        mean_of(
            [sum(i.drawn for i in run.iterations) / sum(i.budget for i in run.iterations) for run in own]
        ),
    )


def _boundary_share(iteration: IterationMetrics) -> float:
    return iteration.boundary / max(1, iteration.inlier + iteration.boundary + iteration.outlier)
