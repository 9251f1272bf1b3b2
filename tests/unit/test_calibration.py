"""Forecasts from pre-samples: against plain code, and on problems whose quality matters or does not."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.calibration import Calibration, Observation, calibrate

FURTHER = 8


def problems(slope: float, count: int = 1500, seed: int = 0) -> list[Observation]:
    """Problems whose pass rate hangs on the count of three pre-samples, and by `slope` on their quality."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        right, quality = chance.choice([0, 0, 1, 2, 3, 3]), chance.random()
        logit = {0: -3.0, 1: -0.5, 2: 0.5, 3: 3.0}[right] + slope * (quality - 0.5)
        further = sum(chance.random() < 1 / (1 + math.exp(-logit)) for _ in range(FURTHER))
        found.append(Observation(right, 3 - right, quality, further, FURTHER - further))
    return found


def test_quality_that_says_nothing_is_said_to_add_nothing() -> None:
    found = calibrate(problems(0.0))
    alone, both = found.forecasts
    assert both.log_loss == pytest.approx(alone.log_loss, rel=0.005)
    (advice,) = found.advice
    assert advice.endswith("it adds nothing to the count; difficulty.signal = 'accuracy'")


@pytest.mark.parametrize("seed", range(10))
def test_chance_in_few_problems_hardly_harms_the_forecast(seed: int) -> None:
    alone, both = calibrate(problems(0.0, count=40, seed=seed)).forecasts
    assert both.log_loss < 1.05 * alone.log_loss


def test_quality_that_matters_lowers_the_log_loss_and_gives_thresholds() -> None:
    seen = problems(6.0, count=4000)
    found = calibrate(seen)
    alone, both = found.forecasts
    assert both.log_loss < 0.97 * alone.log_loss
    assert both.auc > alone.auc
    gain, high, low = found.advice
    assert gain == f"quality lowers the log-loss by {1 - both.log_loss / alone.log_loss:.1%}"
    tau_high, tau_low = (float(line.rpartition(" = ")[2]) for line in (high, low))
    mixed = rate([each for each in seen if 0 < each.right < 3])
    sure = [each for each in seen if each.right == 3]
    assert rate([each for each in sure if (each.quality or 0) > tau_high + 0.005]) < mixed / 2
    assert rate(sure) >= mixed / 2 or tau_high == 0
    hopeless = [each for each in seen if each.right == 0]
    assert rate([each for each in hopeless if (each.quality or 0) < tau_low - 0.005]) < mixed / 2


def rate(seen: list[Observation]) -> float:
    gained = sum(
        min(each.right + each.further_right, each.wrong + each.further_wrong) - min(each.right, each.wrong)
        for each in seen
    )
    return gained / sum(each.further_right + each.further_wrong for each in seen)


def test_few_problems_give_no_threshold() -> None:
    found = calibrate(problems(12.0, count=60))
    assert [line for line in found.advice if "too few problems are" in line]


def test_without_rewards_or_further_samples_there_is_nothing_to_compare() -> None:
    plain = [Observation(right, 3 - right, None, 1, 1) for right in range(4)]
    found = calibrate(plain)
    assert [forecast.known for forecast in found.forecasts] == ["count"]
    assert found.advice == [
        "without rewards there is nothing to compare with the count: difficulty.signal = 'accuracy'"
    ]
    assert {cell.low for cell in found.cells} == {None}
    nothing = calibrate([Observation(1, 2, 0.5, 0, 0)])
    assert (nothing.cells, nothing.forecasts) == ([], [])
    assert nothing.advice == ["no problem has samples beyond its pre-samples: nothing to compare"]


observations = st.lists(
    st.builds(
        Observation,
        st.integers(0, 2),
        st.integers(0, 2),
        st.floats(0, 1),
        st.integers(0, 4),
        st.integers(0, 4),
    ),
    max_size=30,
)


@given(observations)
def test_cells_hold_every_problem_with_further_samples_once(seen: list[Observation]) -> None:
    found: Calibration = calibrate(seen)
    drawn = [each for each in seen if each.further_right + each.further_wrong]
    assert sum(cell.problems for cell in found.cells) == len(drawn)
    assert sum(cell.further for cell in found.cells) == sum(each.further for each in drawn)
    for cell in found.cells:
        assert cell.low is not None
        assert cell.high is not None
        own = [
            each
            for each in drawn
            if (each.right, each.wrong) == (cell.right, cell.wrong)
            and (cell.low < (each.quality or 0) <= cell.high or cell.low == 0 == each.quality)
        ]
        assert len(own) == cell.problems
        assert cell.pairs_per_sample == pytest.approx(rate(own))
    assert all(0 <= forecast.auc <= 1 and math.isfinite(forecast.log_loss) for forecast in found.forecasts)


def test_the_auc_is_that_of_every_pair_of_samples() -> None:
    """By count alone, from the other half of the problems: slow and plain."""
    seen = problems(0.0, count=60, seed=5)
    share = {}
    for fold in (0, 1):
        for right in range(4):
            other = [each for place, each in enumerate(seen) if place % 2 != fold and each.right == right]
            good = sum(each.further_right for each in other) + 0.5
            share[fold, right] = good / (good + sum(each.further_wrong for each in other) + 0.5)
    rights, wrongs, loss = [], [], 0.0
    for place, each in enumerate(seen):
        chance = share[place % 2, each.right]
        rights += [chance] * each.further_right
        wrongs += [chance] * each.further_wrong
        loss -= each.further_right * math.log(chance) + each.further_wrong * math.log(1 - chance)
    ordered = sum((good > bad) + (good == bad) / 2 for good in rights for bad in wrongs)
    (forecast, _) = calibrate(seen).forecasts
    assert forecast.auc == pytest.approx(ordered / (len(rights) * len(wrongs)))
    assert forecast.log_loss == pytest.approx(loss / (len(seen) * FURTHER))
