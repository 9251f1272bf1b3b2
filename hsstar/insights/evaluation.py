"""What evaluations say: the figures of a policy, two policies side by side, and the table of a run."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from hsstar.commands.evaluation_run import EvaluationRun
from hsstar.domain.benchmarks import BENCHMARKS, Decoding
from hsstar.domain.errors import NotFoundError
from hsstar.domain.evaluation import (
    BenchmarkComparison,
    Metrics,
    ProblemOutcome,
    by_group,
    compare,
    differences,
    summarise,
)
from hsstar.domain.statistics import ConfidenceInterval, paired_bootstrap
from hsstar.store import evaluations, rounds, runs
from hsstar.store.database import Database
from hsstar.store.read import overview
from hsstar.store.read.overview import EvaluationEntry


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """A finished evaluation."""

    benchmark: str  # what it was measured on
    decoding: Decoding | None  # how samples were drawn; None for external responses
    figures: Metrics  # over all problems
    subjects: dict[str, Metrics]  # the same by subject, where the data have them
    levels: dict[str, Metrics]
    outcomes: list[ProblemOutcome]  # problem by problem


def load_results(database: Database, run: EvaluationRun) -> list[BenchmarkResult]:
    """Load the results of a finished evaluation, a benchmark each."""
    with database.begin() as connection:
        parts = [(benchmark, *_load(connection, run, key)) for benchmark, key in run.parts]
    return [
        BenchmarkResult(
            benchmark,
            decoding,
            summarise(outcomes),
            _grouped(outcomes, lambda outcome: outcome.subject),
            _grouped(outcomes, lambda outcome: outcome.level),
            outcomes,
        )
        for benchmark, decoding, outcomes in parts
    ]


def _load(
    connection: Connection, run: EvaluationRun, key: str
) -> tuple[Decoding | None, list[ProblemOutcome]]:
    evaluation = evaluations.find_evaluation(connection, run.run.id, run.run.model_id, key)
    assert evaluation is not None  # noqa: S101  # the caller has started it
    return (
        evaluations.find_decoding(connection, evaluation.id),
        evaluations.outcomes(connection, evaluation.id),
    )


def _grouped(
    outcomes: Sequence[ProblemOutcome], group: Callable[[ProblemOutcome], str | None]
) -> dict[str, Metrics]:
    return {name: summarise(members) for name, members in by_group(outcomes, group).items()}


# --- two policies ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """Two policies on the same benchmarks."""

    benchmarks: dict[str, BenchmarkComparison]  # by benchmark
    difference: float  # of the unweighted means, second minus first
    interval: ConfidenceInterval  # of the difference, by paired bootstrap within each benchmark


def compare_policies(
    first: Sequence[BenchmarkResult], second: Sequence[BenchmarkResult], seed: int
) -> PolicyComparison:
    """Compare two policies on the same benchmarks in the same order; the seed decides the intervals."""
    pairs = list(zip(first, second, strict=True))
    generator = random.Random(seed)  # noqa: S311  # statistics, no secrets

    def resample(values: Sequence[float]) -> Sequence[float]:
        return generator.choices(values, k=len(values))

    benchmarks = {one.benchmark: compare(one.outcomes, other.outcomes, resample) for one, other in pairs}
    mean = sum(comparison.difference for comparison in benchmarks.values()) / len(benchmarks)
    interval = paired_bootstrap([differences(one.outcomes, other.outcomes) for one, other in pairs], resample)
    return PolicyComparison(benchmarks, mean, interval)


def macro_average(results: Sequence[BenchmarkResult]) -> float:
    """Return the unweighted mean of the accuracies of benchmarks."""
    return sum(result.figures.accuracy.mean for result in results) / len(results)


# --- the table of a run ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTable:
    """A run as published: a row per policy M_t, a column per benchmark, and their mean.

    `rows` are (t, name of M_t, accuracy and standard error by column; None if it is not measured yet).
    """

    columns: tuple[str, ...]  # names of the benchmarks, the held-out dataset last
    benchmarks: int  # how many columns are benchmarks; the mean is theirs
    rows: tuple[tuple[int, str, tuple[tuple[float, float] | None, ...]], ...]

    def mean(self, row: int) -> float | None:
        """Return the mean of a row's benchmarks; None unless all are measured."""
        cells = self.rows[row][2][: self.benchmarks]
        accuracies = [cell[0] for cell in cells if cell is not None]
        return sum(accuracies) / len(accuracies) if accuracies and len(accuracies) == len(cells) else None


def run_table(database: Database, run_name: str) -> RunTable:
    """Load the accuracies of every policy of a run, from M_0 on.

    If an iteration trained nothing, M_{t+1} is M_t and has its figures. Raise NotFoundError if the run does
    not exist or has no evaluation.
    """
    with database.begin() as connection:
        run = runs.find_run(connection, run_name)
        rows = evaluations.results(connection, run.name)
        policies = rounds.list_policies(connection, run.id)
    if not rows:
        raise NotFoundError(
            f"run {run_name!r} has no evaluation; its recipe names neither evaluation.dataset nor "
            "benchmarks, or it has not begun"
        )
    keys = sorted({row["measure"] for row in rows}, key=lambda key: _place(key, rows))
    cells = {
        (row["model"], row["measure"]): (row["accuracy"], row["standard_error"])
        for row in rows
        if row["accuracy"] is not None
    }
    return RunTable(
        columns=tuple(_column(key, keys, rows) for key in keys),
        benchmarks=sum(key != evaluations.HELD_OUT for key in keys),
        rows=tuple(
            (number, name, tuple(cells.get((name, key)) for key in keys)) for number, name in policies
        ),
    )


def _place(key: str, rows: list[dict[str, Any]]) -> tuple[bool, int, str]:
    """Sort benchmarks as in the published tables, then other datasets, the held-out problems last."""
    name = _benchmark(key, rows)
    published = list(BENCHMARKS)
    place = published.index(name) if name in published else len(published)
    return key == evaluations.HELD_OUT, place, key


def _benchmark(key: str, rows: list[dict[str, Any]]) -> str:
    return str(next(row["benchmark"] for row in rows if row["measure"] == key))


def _column(key: str, keys: list[str], rows: list[dict[str, Any]]) -> str:
    """The benchmark's name if no other column has it, else the whole key."""
    name = _benchmark(key, rows)
    return name if [_benchmark(other, rows) for other in keys].count(name) == 1 else key


def list_evaluations(database: Database) -> list[EvaluationEntry]:
    """Return the evaluations that hsstar evaluate has made, oldest first."""
    with database.begin() as connection:
        return overview.list_evaluations(connection)
