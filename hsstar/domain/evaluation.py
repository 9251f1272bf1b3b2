"""Results of evaluations: metrics over problems, by subject and level, and two policies compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hsstar.domain.statistics import (
    ConfidenceInterval,
    Estimate,
    Resample,
    estimate,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
)


@dataclass(frozen=True, slots=True)
class ProblemOutcome:
    """The samples of one problem of an evaluation, as counts."""

    problem_id: int
    subject: str | None
    level: str | None
    readable: bool  # whether its reference answer can be read
    exclusion: str | None  # why nothing was drawn; None where it was
    drawn: int  # samples
    correct: int
    without_verdict: int  # undecided by the verifier; they count as not correct
    tokens: int  # of all samples together, as far as they are known
    counted: int  # samples whose tokens are known
    truncated: int  # samples that ended at the limit of new tokens
    ended: int  # samples of which it is known how they ended
    majority: bool  # whether the most frequent answer is correct

    @property
    def accuracy(self) -> float:
        """Share of correct samples; 0 without samples, so that every problem counts."""
        return self.correct / self.drawn if self.drawn else 0.0


@dataclass(frozen=True, slots=True)
class Metrics:
    """The metrics of a set of problems."""

    problems: int  # all of them: the denominator of `accuracy`
    unreadable: int  # problems with an unreadable reference answer; they count as not solved
    left_out: int  # problems without samples for another reason; they count as not solved
    drawn: int
    without_verdict: int  # samples that the verifier could not decide
    accuracy: Estimate  # mean over problems of their own share of correct samples (avg@k)
    accuracy_readable: float | None  # over the problems with a readable reference; None without any
    pass_at: Mapping[int, float]  # k to mean pass@k, k = 1, 2, 4 … up to the samples; empty with one
    majority: float | None  # share of problems whose most frequent answer is correct; None with one sample
    mean_tokens: float | None  # of a sample; None if unknown
    truncated_share: float | None  # of the samples with a known finish reason; None without any


def summarise(outcomes: Sequence[ProblemOutcome]) -> Metrics:
    """The figures of these problems, of which there is at least one."""
    counted, ended = sum(outcome.counted for outcome in outcomes), sum(outcome.ended for outcome in outcomes)
    readable = [outcome.accuracy for outcome in outcomes if outcome.readable]
    several = max(outcome.drawn for outcome in outcomes) > 1
    return Metrics(
        problems=len(outcomes),
        unreadable=sum(not outcome.readable for outcome in outcomes),
        left_out=sum(outcome.readable and outcome.exclusion is not None for outcome in outcomes),
        drawn=sum(outcome.drawn for outcome in outcomes),
        without_verdict=sum(outcome.without_verdict for outcome in outcomes),
        accuracy=estimate([outcome.accuracy for outcome in outcomes]),
        accuracy_readable=estimate(readable).mean if readable else None,
        pass_at=_pass_at(outcomes) if several else {},
        majority=sum(outcome.majority for outcome in outcomes) / len(outcomes) if several else None,
        mean_tokens=sum(outcome.tokens for outcome in outcomes) / counted if counted else None,
        truncated_share=sum(outcome.truncated for outcome in outcomes) / ended if ended else None,
    )


def _pass_at(outcomes: Sequence[ProblemOutcome]) -> dict[int, float]:
    """Return mean pass@k up to the fewest samples of a problem with any; problems without any have 0."""
    drawn = [outcome for outcome in outcomes if outcome.drawn]
    most = min(outcome.drawn for outcome in drawn)
    powers = [1 << exponent for exponent in range(most.bit_length())]
    none = [0.0] * (len(outcomes) - len(drawn))
    return {
        k: estimate([*(pass_at_k(outcome.drawn, outcome.correct, k) for outcome in drawn), *none]).mean
        for k in sorted({*powers, most})
    }


def by_group(
    outcomes: Sequence[ProblemOutcome], group: Callable[[ProblemOutcome], str | None]
) -> dict[str, list[ProblemOutcome]]:
    """Return the outcomes by subject or level, ordered by its name, without those that have none."""
    groups: dict[str, list[ProblemOutcome]] = {}
    for outcome in outcomes:
        if (name := group(outcome)) is not None:
            groups.setdefault(name, []).append(outcome)
    return dict(sorted(groups.items()))


@dataclass(frozen=True, slots=True)
class BenchmarkComparison:
    """Two policies on the problems that both have."""

    problems: int
    difference: float  # second minus first accuracy
    interval: ConfidenceInterval  # of the difference, by paired bootstrap
    only_first: int | None  # problems that only one policy solves; None with several samples each
    only_second: int | None
    p_value: float | None  # of McNemar's exact test on these; None with several samples each


def differences(first: Sequence[ProblemOutcome], second: Sequence[ProblemOutcome]) -> list[float]:
    """Return second minus first accuracy of every problem that both policies have."""
    known = {outcome.problem_id: outcome.accuracy for outcome in first}
    return [outcome.accuracy - known[outcome.problem_id] for outcome in second if outcome.problem_id in known]


def compare(
    first: Sequence[ProblemOutcome], second: Sequence[ProblemOutcome], resample: Resample
) -> BenchmarkComparison:
    """Compare two policies problem by problem; raise BadInputError without a common problem."""
    changes = differences(first, second)
    interval = paired_bootstrap([changes], resample)
    single = max(outcome.drawn for outcome in [*first, *second]) <= 1
    only_first, only_second = sum(change < 0 for change in changes), sum(change > 0 for change in changes)
    return BenchmarkComparison(
        len(changes),
        estimate(changes).mean,
        interval,
        only_first if single else None,
        only_second if single else None,
        mcnemar_exact(only_first, only_second) if single else None,
    )
