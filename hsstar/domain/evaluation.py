"""What an evaluation says: figures over its problems, by subject and level, and two policies side by side."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hsstar.domain.statistics import (
    Estimate,
    Interval,
    Resample,
    estimate,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
)


@dataclass(frozen=True, slots=True)
class ProblemOutcome:
    """What came out of one problem of an evaluation.

    Attributes:
        readable: whether its reference answer can be read.
        exclusion: why nothing was drawn; None where it was.
        drawn: samples.
        correct: of them.
        without_verdict: of them, those that the verifier could not decide; they count as not correct.
        tokens: of all samples together, as far as they are known.
        counted: samples whose tokens are known.
        truncated: samples that ended at the limit of new tokens.
        ended: samples of which it is known how they ended.
        majority: whether the most frequent answer is correct.
    """

    problem_id: int
    subject: str | None
    level: str | None
    readable: bool
    exclusion: str | None
    drawn: int
    correct: int
    without_verdict: int
    tokens: int
    counted: int
    truncated: int
    ended: int
    majority: bool

    @property
    def accuracy(self) -> float:
        """Share of correct samples; 0 where there is none, so that every problem counts."""
        return self.correct / self.drawn if self.drawn else 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a set of problems.

    Attributes:
        problems: all of them: the denominator of `accuracy`.
        unreadable: those whose reference answer cannot be read; they count as not solved.
        left_out: those for which nothing was drawn for another reason; they count as not solved.
        drawn: samples.
        without_verdict: samples that the verifier could not decide.
        accuracy: mean over problems of their own share of correct samples (avg@k).
        accuracy_readable: the same over the problems whose reference can be read; None without any.
        pass_at: k to mean pass@k, for k = 1, 2, 4 … and the number of samples; empty with one sample.
        majority: share of problems whose most frequent answer is correct; None with one sample.
        mean_tokens: of a sample; None where they are unknown.
        truncated_share: of the samples of which it is known how they ended; None without any.
    """

    problems: int
    unreadable: int
    left_out: int
    drawn: int
    without_verdict: int
    accuracy: Estimate
    accuracy_readable: float | None
    pass_at: Mapping[int, float]
    majority: float | None
    mean_tokens: float | None
    truncated_share: float | None


def summarise(outcomes: Sequence[ProblemOutcome]) -> Figures:
    """The figures of these problems, of which there is at least one."""
    counted, ended = sum(each.counted for each in outcomes), sum(each.ended for each in outcomes)
    readable = [each.accuracy for each in outcomes if each.readable]
    several = max(each.drawn for each in outcomes) > 1
    return Figures(
        problems=len(outcomes),
        unreadable=sum(not each.readable for each in outcomes),
        left_out=sum(each.readable and each.exclusion is not None for each in outcomes),
        drawn=sum(each.drawn for each in outcomes),
        without_verdict=sum(each.without_verdict for each in outcomes),
        accuracy=estimate([each.accuracy for each in outcomes]),
        accuracy_readable=estimate(readable).mean if readable else None,
        pass_at=_pass_at(outcomes) if several else {},
        majority=_share([each.majority for each in outcomes]) if several else None,
        mean_tokens=sum(each.tokens for each in outcomes) / counted if counted else None,
        truncated_share=sum(each.truncated for each in outcomes) / ended if ended else None,
    )


def _pass_at(outcomes: Sequence[ProblemOutcome]) -> dict[int, float]:
    """Mean pass@k over all problems; those without a sample have 0. Up to what the least drawn one allows."""
    most = min(each.drawn for each in outcomes if each.drawn)
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return {
        k: estimate([pass_at_k(each.drawn, each.correct, k) if each.drawn else 0.0 for each in outcomes]).mean
        for k in sorted({*powers, most})
    }


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)


def by_group(
    outcomes: Sequence[ProblemOutcome], group: Callable[[ProblemOutcome], str | None]
) -> dict[str, list[ProblemOutcome]]:
    """The outcomes by subject or level, ordered by its name; those that have none are left out."""
    found: dict[str, list[ProblemOutcome]] = {}
    for each in outcomes:
        if (name := group(each)) is not None:
            found.setdefault(name, []).append(each)
    return dict(sorted(found.items()))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two policies on the same problems.

    Attributes:
        problems: that both were given.
        difference: second minus first accuracy, with a confidence interval by paired bootstrap.
        only_first, only_second: problems that only one of them solves, where each has one sample.
        p_value: of McNemar's exact test on those; None where problems have several samples.
    """

    problems: int
    difference: float
    interval: Interval
    only_first: int | None
    only_second: int | None
    p_value: float | None


def differences(first: Sequence[ProblemOutcome], second: Sequence[ProblemOutcome]) -> list[float]:
    """Second minus first accuracy of every problem that both were given."""
    known = {each.problem_id: each.accuracy for each in first}
    return [each.accuracy - known[each.problem_id] for each in second if each.problem_id in known]


def compare(
    first: Sequence[ProblemOutcome], second: Sequence[ProblemOutcome], resample: Resample
) -> Comparison:
    """Compares two policies problem by problem.

    Raises:
        BadInputError: they have no problem in common.
    """
    given = differences(first, second)
    interval = paired_bootstrap([given], resample)
    single = max(each.drawn for each in [*first, *second]) <= 1
    only_first, only_second = sum(each < 0 for each in given), sum(each > 0 for each in given)
    return Comparison(
        len(given),
        estimate(given).mean,
        interval,
        only_first if single else None,
        only_second if single else None,
        mcnemar_exact(only_first, only_second) if single else None,
    )
