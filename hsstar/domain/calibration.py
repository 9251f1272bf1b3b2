"""What the pre-samples of a problem foretell: does quality say more than the count of correct ones?"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SMALLEST_GAIN = 0.01
"""A share of the log-loss; quality that lowers it by less says nothing."""
FEWEST_PROBLEMS = 30
"""A threshold needs as many problems beyond it."""
BANDS = (0.25, 0.5, 0.75)
"""Between the bands of process quality."""
_FOLDS = 2
_STEPS = 25  # of Newton's method
_PENALTY = 1.0  # that of a standard normal prior of the slope, in log-odds from the worst quality to the best


@dataclass(frozen=True, slots=True)
class Observation:
    """The pre-samples of a problem and what its further samples came to."""

    right: int  # correct pre-samples
    wrong: int
    quality: float | None  # mean minimum reward of the pre-samples, in [0, 1]
    further_right: int
    further_wrong: int

    @property
    def further(self) -> int:
        """Samples with a verdict after the pre-samples."""
        return self.further_right + self.further_wrong

    @property
    def pairs_gained(self) -> int:
        """Pairs that the further samples added."""
        all_of_them = min(self.right + self.further_right, self.wrong + self.further_wrong)
        return all_of_them - min(self.right, self.wrong)


@dataclass(frozen=True, slots=True)
class Cell:
    """The problems with one count of correct pre-samples and a process quality in one band."""

    right: int
    wrong: int
    low: float | None  # bounds of the quality; None without rewards
    high: float | None
    problems: int
    further: int  # samples
    correct_share: float  # of them
    pairs_per_sample: float  # pairs that they added, each


@dataclass(frozen=True, slots=True)
class Forecast:
    """How well the next verdict is foretold by what is known after the pre-samples."""

    known: Literal["count", "count and quality"]
    log_loss: float
    auc: float  # share of (right, wrong) further samples that are in the right order; ties count half


@dataclass(frozen=True, slots=True)
class Calibration:
    """A table of what was seen, two forecasts, and what follows for `[difficulty]`."""

    cells: list[Cell]
    forecasts: list[Forecast]
    advice: list[str]


def calibrate(observations: Sequence[Observation]) -> Calibration:
    """Compare forecasts of the next verdict by the count of correct pre-samples, without and with quality.

    Each half of the problems is foretold from the other half. Problems without further samples say nothing.
    """
    seen = [observation for observation in observations if observation.further]
    forecasts = [_forecast(seen, "count")] if seen else []
    if seen and all(observation.quality is not None for observation in seen):
        forecasts.append(_forecast(seen, "count and quality"))
    return Calibration(_cells(seen), forecasts, _advice(seen, forecasts))


def _cells(seen: Sequence[Observation]) -> list[Cell]:
    grouped: dict[tuple[int, int, int | None], list[Observation]] = {}
    for each in seen:
        band = None if each.quality is None else sum(each.quality > bound for bound in BANDS)
        grouped.setdefault((each.right, each.wrong, band), []).append(each)
    bounds = (0.0, *BANDS, 1.0)
    found = []
    for (right, wrong, band), group in sorted(
        grouped.items(), key=lambda item: (*item[0][:2], item[0][2] or 0)
    ):
        further = sum(each.further for each in group)
        found.append(
            Cell(
                right,
                wrong,
                None if band is None else bounds[band],
                None if band is None else bounds[band + 1],
                len(group),
                further,
                sum(each.further_right for each in group) / further,
                _rate(group),
            )
        )
    return found


def _rate(group: Iterable[Observation]) -> float:
    """Return the pairs that a further sample of these problems added."""
    pairs = further = 0
    for each in group:
        pairs += each.pairs_gained
        further += each.further
    return pairs / further if further else 0.0


def _forecast(seen: Sequence[Observation], known: Literal["count", "count and quality"]) -> Forecast:
    chances = [0.0] * len(seen)
    for fold in range(_FOLDS):
        models = _fitted(
            [each for place, each in enumerate(seen) if place % _FOLDS != fold],
            with_quality=known == "count and quality",
        )
        for place in range(fold, len(seen), _FOLDS):
            each = seen[place]
            level, slope, middle = models.get((each.right, each.wrong), (0.0, 0.0, 0.0))
            chances[place] = _chance(level + slope * ((each.quality or 0.0) - middle))
    loss = -sum(
        each.further_right * math.log(chance) + each.further_wrong * math.log(1 - chance)
        for each, chance in zip(seen, chances, strict=True)
    )
    scored = [
        (chance, each.further_right, each.further_wrong) for each, chance in zip(seen, chances, strict=True)
    ]
    area = area_under_curve(scored)
    return Forecast(known, loss / sum(each.further for each in seen), 0.5 if area is None else area)


def _fitted(
    seen: Iterable[Observation], *, with_quality: bool
) -> Mapping[tuple[int, int], tuple[float, float, float]]:
    """Return level and slope of a logistic regression on quality, and the mean quality, by pre-samples."""
    grouped: dict[tuple[int, int], list[Observation]] = {}
    for each in seen:
        grouped.setdefault((each.right, each.wrong), []).append(each)
    found = {}
    for counts, group in grouped.items():
        right = sum(each.further_right for each in group) + 0.5
        wrong = sum(each.further_wrong for each in group) + 0.5
        level = math.log(right / wrong)
        if with_quality:
            middle = sum(each.quality or 0.0 for each in group) / len(group)
            found[counts] = (*_logistic(group, middle, level), middle)
        else:
            found[counts] = (level, 0.0, 0.0)
    return found


def _logistic(group: Sequence[Observation], middle: float, level: float) -> tuple[float, float]:
    """Fit level and slope by Newton's method; the penalty holds both where few problems tell them."""
    start, slope = level, 0.0
    for _ in range(_STEPS):
        pulls = [-_PENALTY * (level - start), -_PENALTY * slope]
        flat, mixed, steep = _PENALTY, 0.0, _PENALTY
        for each in group:
            away = (each.quality or 0.0) - middle
            chance = _chance(level + slope * away)
            missed = each.further_right - each.further * chance
            weight = each.further * chance * (1 - chance)
            pulls[0] += missed
            pulls[1] += missed * away
            flat += weight
            mixed += weight * away
            steep += weight * away * away
        determinant = flat * steep - mixed * mixed
        level += _bounded((steep * pulls[0] - mixed * pulls[1]) / determinant)
        slope += _bounded((flat * pulls[1] - mixed * pulls[0]) / determinant)
    return level, slope


def _bounded(step: float) -> float:
    return max(-2.0, min(2.0, step))


def _chance(logit: float) -> float:
    chance = 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))
    return max(1e-6, min(1 - 1e-6, chance))


def area_under_curve(scored: Iterable[tuple[float, int, int]]) -> float | None:
    """Return the share of (right, wrong) pairs in the right order; ties count half; None without a pair.

    `scored` are a score, and how many of those that have it are right and wrong.
    """
    by_score: dict[float, list[int]] = {}
    for score, right, wrong in scored:
        both = by_score.setdefault(score, [0, 0])
        both[0] += right
        both[1] += wrong
    ordered = wrong_below = all_right = 0.0
    for score in sorted(by_score):
        right, wrong = by_score[score]
        ordered += right * (wrong_below + wrong / 2)
        wrong_below += wrong
        all_right += right
    return ordered / (all_right * wrong_below) if all_right and wrong_below else None


def gain_of_quality(forecasts: Sequence[Forecast]) -> float | None:
    """Return the share by which quality lowers the log-loss of the count; None without both forecasts."""
    if len(forecasts) < 2:
        return None
    alone, both = (forecast.log_loss for forecast in forecasts)
    return (alone - both) / alone


def _advice(seen: Sequence[Observation], forecasts: Sequence[Forecast]) -> list[str]:
    if not seen:
        return ["no problem has samples beyond its pre-samples: nothing to compare"]
    gain = gain_of_quality(forecasts)
    if gain is None:
        return ["without rewards there is nothing to compare with the count: difficulty.signal = 'accuracy'"]
    if gain < SMALLEST_GAIN:
        return [
            f"quality lowers the log-loss by {gain:.1%}: it adds nothing to the count; "
            "difficulty.signal = 'accuracy'"
        ]
    mixed = _rate(each for each in seen if each.right and each.wrong)
    high = [(each.quality or 0.0, each) for each in seen if not each.wrong]
    low = [(1 - (each.quality or 0.0), each) for each in seen if not each.right]
    found = [f"quality lowers the log-loss by {gain:.1%}"]
    for key, side, words, threshold in (
        ("tau_high", high, "all right", _threshold(high, mixed / 2)),
        ("tau_low", low, "all wrong", _threshold(low, mixed / 2)),
    ):
        if len(side) < FEWEST_PROBLEMS:
            found.append(f"{key}: too few problems are {words} ({len(side)} of {FEWEST_PROBLEMS})")
        elif threshold is None:
            found.append(f"{key}: at no quality do problems that are {words} give pairs so seldom")
        else:
            value = threshold if key == "tau_high" else 1 - threshold
            found.append(f"difficulty.{key} = {value:.2f}")
    return found


def _threshold(side: Sequence[tuple[float, Observation]], rate: float) -> float | None:
    """Return the least sureness above which problems give pairs at less than a rate; None without one."""
    pairs = further = 0
    found = None
    ordered = sorted(side, key=lambda item: -item[0])
    for place, (sureness, each) in enumerate(ordered):
        pairs += each.pairs_gained
        further += each.further
        below = ordered[place + 1][0] if place + 1 < len(ordered) else 0.0
        if below < sureness and place + 1 >= FEWEST_PROBLEMS and pairs / further < rate:
            found = below
    return found
