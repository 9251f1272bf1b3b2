"""How good a process reward model is on problems that it has not learned from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hsstar.domain.calibration import Observation, area_under_curve, calibrate, gain_of_quality
from hsstar.domain.rewards import aggregate
from hsstar.domain.seeds import shuffle_key
from hsstar.domain.step_labels import Label

BINS = 10


@dataclass(frozen=True, slots=True)
class ScoredResponse:
    """A response with its verdict, the labels of its steps, and the rewards of those within the context."""

    problem_key: str
    correct: bool
    labels: Sequence[Label]
    rewards: Sequence[float]


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The labelled steps whose rewards lie between two bounds; a calibrated model has equal means."""

    low: float
    high: float
    steps: int
    mean_reward: float
    mean_label: float


@dataclass(frozen=True, slots=True)
class RewardQuality:
    """Measures of a process reward model; None where the responses do not say."""

    problems: int
    responses: int
    steps: int  # with a label and a reward
    auc: float | None  # chance that a correct response has a higher minimum reward than an incorrect one
    auc_within: float | None  # the same between responses of one problem: its mean over problems with both
    label_error: float | None  # mean |label - reward| of a step
    gain: float | None  # share by which minimum rewards lower the log-loss of further verdicts by the count
    reliability: Sequence[ReliabilityBin]  # bins without steps are left out


def held_out_keys(keys: Iterable[str], held_out: float, seed: int) -> frozenset[str]:
    """Return the keys of about this share of the problems, at least of one, and never of all."""
    ordered = sorted(set(keys), key=lambda key: shuffle_key(seed, "held out", key))
    count = min(max(1, round(held_out * len(ordered))), len(ordered) - 1)
    return frozenset(ordered[: max(0, count)])


def reward_quality(
    responses: Sequence[ScoredResponse], further: Mapping[str, tuple[int, int]]
) -> RewardQuality:
    """Measure rewards against the verdicts of responses, the labels of steps, and further verdicts.

    `further` are the correct and incorrect samples of each problem beside these responses, by its key.
    """
    steps = [
        (label, reward)
        for response in responses
        for label, reward in zip(response.labels, response.rewards, strict=False)  # the context may end
        if label is not None
    ]
    by_problem: dict[str, list[ScoredResponse]] = {}
    for response in responses:
        by_problem.setdefault(response.problem_key, []).append(response)
    within = [area_under_curve(_minima(own)) for own in by_problem.values()]
    told = [area for area in within if area is not None]
    observations = [_observation(own, *further.get(key, (0, 0))) for key, own in sorted(by_problem.items())]
    return RewardQuality(
        problems=len(by_problem),
        responses=len(responses),
        steps=len(steps),
        auc=area_under_curve(_minima(responses)),
        auc_within=fmean(told) if told else None,
        label_error=fmean(abs(label - reward) for label, reward in steps) if steps else None,
        gain=gain_of_quality(calibrate(observations).forecasts),
        reliability=_reliability(steps),
    )


def _minima(responses: Iterable[ScoredResponse]) -> list[tuple[float, int, int]]:
    """Return the minimum reward of each response, with one correct or one incorrect sample."""
    return [
        (aggregate([*response.rewards]), int(response.correct), int(not response.correct))
        for response in responses
    ]


def _observation(responses: Sequence[ScoredResponse], further_right: int, further_wrong: int) -> Observation:
    right = sum(response.correct for response in responses)
    quality = fmean(aggregate([*response.rewards]) for response in responses)
    return Observation(right, len(responses) - right, quality, further_right, further_wrong)


def _reliability(steps: Iterable[tuple[float, float]]) -> list[ReliabilityBin]:
    bins: dict[int, list[tuple[float, float]]] = {}
    for label, reward in steps:
        bins.setdefault(min(BINS - 1, int(reward * BINS)), []).append((label, reward))
    return [
        ReliabilityBin(
            place / BINS,
            (place + 1) / BINS,
            len(own),
            fmean(reward for _, reward in own),
            fmean(label for label, _ in own),
        )
        for place, own in sorted(bins.items())
    ]
