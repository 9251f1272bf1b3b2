"""What evaluations say: the figures of a policy, two policies side by side, and the table of a run."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hsstar.domain.benchmarks import BENCHMARKS, Decoding
from hsstar.domain.evaluation import (
    BenchmarkComparison,
    Metrics,
    ProblemOutcome,
    by_group,
    compare,
    differences,
    summarise,
)
from hsstar.domain.statistics import ConfidenceInterval, majority, paired_bootstrap
from hsstar.store import evaluations, rounds
from hsstar.store.database import Database
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest, Verifier

Answers = list[tuple[str | None, bool]]
"""Of one problem: the answers of its samples by slot, and whether each is correct."""


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """A finished evaluation.

    Attributes:
        benchmark: what it was measured on.
        decoding: how samples were drawn; None for given responses.
        figures: over all problems.
        subjects, levels: the same by subject and by level, where the data have them.
        outcomes: problem by problem.
    """

    benchmark: str
    decoding: Decoding | None
    figures: Metrics
    subjects: dict[str, Metrics]
    levels: dict[str, Metrics]
    outcomes: list[ProblemOutcome]


def load_results(database: Database, run: Run, wanted: Sequence[tuple[str, str]]) -> list[BenchmarkResult]:
    """The results of a run's evaluations of its first policy.

    Args:
        database: where they are.
        run: of `start_evaluation` or `import_responses`.
        wanted: (benchmark, evaluation key) of finished evaluations.
    """
    verifier = MathVerifier()
    try:
        return [_load(database, run, benchmark, key, verifier) for benchmark, key in wanted]
    finally:
        verifier.close()


def _load(
    database: Database, run: Run, benchmark: str, evaluation_key: str, verifier: Verifier
) -> BenchmarkResult:
    with database.begin() as connection:
        found = evaluations.find_evaluation(connection, run.id, run.model_id, evaluation_key)
        assert found is not None  # noqa: S101  # whoever asks has started it
        decoding = evaluations.find_decoding(connection, found.id)
        outcomes = evaluations.outcomes(connection, found.id)
        several = max((each.drawn for each in outcomes), default=0) > 1
        answers = evaluations.answers(connection, found.id) if several else {}
    majorities = vote(answers, verifier)
    return BenchmarkResult(
        benchmark,
        decoding,
        summarise(outcomes, majorities),
        _grouped(by_group(outcomes, lambda each: each.subject), majorities),
        _grouped(by_group(outcomes, lambda each: each.level), majorities),
        outcomes,
    )


def _grouped(groups: dict[str, list[ProblemOutcome]], majorities: dict[int, bool]) -> dict[str, Metrics]:
    return {name: summarise(outcomes, majorities) for name, outcomes in groups.items()}


def vote(answers: dict[int, Answers], verifier: Verifier) -> dict[int, bool]:
    """By problem, whether the most frequent answer is correct (maj@k).

    Correct answers are one class. Wrong ones are put together where the verifier finds them equivalent,
    a later one with the first class whose first answer it equals. Those without answer cast no vote, and
    of equally frequent answers the one counts that was given first.
    """
    outvoted = {problem: given for problem, given in answers.items() if any(correct for _, correct in given)}
    pairs = [
        (problem, later, earlier)
        for problem, given in outvoted.items()
        for later, earlier in _open_pairs(given)
    ]
    requests = [VerificationRequest(later, earlier, is_answer=True) for _, later, earlier in pairs]
    judged = zip(pairs, verifier.verify(requests), strict=True)
    same = {pair for pair, judgement in judged if judgement.verdict == "correct"}
    return {
        problem: problem in outvoted and _majority_is_correct(problem, given, same)
        for problem, given in answers.items()
    }


def _open_pairs(given: Answers) -> list[tuple[str, str]]:
    """The pairs of wrong answers whose equality can decide a vote: none where the correct ones win anyway."""
    wrong = [answer for answer, correct in given if answer is not None and not correct]
    if len(wrong) < sum(correct for _, correct in given):
        return []
    different = list(dict.fromkeys(wrong))
    return [(later, earlier) for place, later in enumerate(different) for earlier in different[:place]]


def _majority_is_correct(problem: int, given: Answers, same: set[tuple[int, str, str]]) -> bool:
    classes: dict[str, str] = {}
    votes: list[tuple[bool, str] | None] = []
    for answer, correct in given:
        if correct:
            votes.append((True, ""))
        elif answer is None:
            votes.append(None)
        else:
            heads = dict.fromkeys(classes.values())
            head = next((each for each in heads if (problem, answer, each) in same), answer)
            votes.append((False, classes.setdefault(answer, head)))
    winner = majority(votes)
    return winner == (True, "")


# --- two policies ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contest:
    """Two policies on the same benchmarks.

    Attributes:
        benchmarks: by benchmark.
        difference: of the unweighted means, second minus first.
        interval: its confidence interval by paired bootstrap within each benchmark.
    """

    benchmarks: dict[str, BenchmarkComparison]
    difference: float
    interval: ConfidenceInterval


def contest(first: Sequence[BenchmarkResult], second: Sequence[BenchmarkResult], seed: int) -> Contest:
    """Compares two policies on benchmarks that both were measured on, in the same order.

    The same seed gives the same intervals.
    """
    pairs = list(zip(first, second, strict=True))
    generator = random.Random(seed)  # noqa: S311  # statistics, no secrets

    def resample(values: Sequence[float]) -> Sequence[float]:
        return generator.choices(values, k=len(values))

    found = {one.benchmark: compare(one.outcomes, other.outcomes, resample) for one, other in pairs}
    given = [differences(one.outcomes, other.outcomes) for one, other in pairs]
    mean = sum(each.difference for each in found.values()) / len(found)
    return Contest(found, mean, paired_bootstrap(given, resample))


def headline(results: Sequence[BenchmarkResult]) -> float:
    """The unweighted mean of the accuracies of benchmarks."""
    return sum(each.figures.accuracy.mean for each in results) / len(results)


# --- the table of a run ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTable:
    """A run as published: a row per policy M_t, a column per benchmark, and their mean.

    Attributes:
        columns: names of the benchmarks, the held-out dataset last.
        benchmarks: how many columns are benchmarks; the mean is theirs.
        rows: (t, name of M_t, accuracy and standard error by column, None where there is none yet).
    """

    columns: tuple[str, ...]
    benchmarks: int
    rows: tuple[tuple[int, str, tuple[tuple[float, float] | None, ...]], ...]

    def mean(self, row: int) -> float | None:
        """The mean of a row's benchmarks; None unless all are there."""
        found = self.rows[row][2][: self.benchmarks]
        there = [each[0] for each in found if each is not None]
        return sum(there) / len(there) if there and len(there) == len(found) else None


def run_table(database: Database, run: Run) -> RunTable:
    """The accuracies of every policy of a run, from M_0 on.

    Where an iteration trained nothing, M_{t+1} is M_t and has its figures.
    """
    with database.begin() as connection:
        found = evaluations.results(connection, run.name)
        policies = rounds.list_policies(connection, run.id)
    keys = list(dict.fromkeys(row["measure"] for row in found))
    order = sorted(keys, key=lambda key: _place(key, found))
    cells = {
        (row["model"], row["measure"]): (row["accuracy"], row["standard_error"])
        for row in found
        if row["accuracy"] is not None
    }
    return RunTable(
        columns=tuple(_column(key, keys, found) for key in order),
        benchmarks=sum(key != evaluations.HELD_OUT for key in order),
        rows=tuple(
            (number, name, tuple(cells.get((name, key)) for key in order)) for number, name in policies
        ),
    )


def _place(key: str, found: list[dict[str, Any]]) -> tuple[bool, int, str]:
    """Benchmarks in the order of the published tables, others behind, the held-out problems last."""
    name = _benchmark(key, found)
    known = list(BENCHMARKS)
    return key == evaluations.HELD_OUT, known.index(name) if name in known else len(known), key


def _benchmark(key: str, found: list[dict[str, Any]]) -> str:
    return str(next(row["benchmark"] for row in found if row["measure"] == key))


def _column(key: str, keys: list[str], found: list[dict[str, Any]]) -> str:
    """The benchmark's name where that is enough to tell columns apart, else the whole key."""
    name = _benchmark(key, found)
    return name if [_benchmark(each, found) for each in keys].count(name) == 1 else key
