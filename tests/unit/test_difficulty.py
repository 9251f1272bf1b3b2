"""Difficulty: the level of a problem by what its pre-samples say (METHOD step 3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.difficulty import (
    Difficulty,
    DifficultyEstimate,
    Signal,
    Thresholds,
    classify,
    estimate_difficulty,
)
from hsstar.domain.errors import BadInputError

INLIER, BOUNDARY, OUTLIER = Difficulty
PUBLISHED = Thresholds(0.15, 0.65)

estimates = st.builds(
    DifficultyEstimate,
    st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1)),
    st.one_of(st.sampled_from([0.15, 0.65]), st.floats(0, 1)),
)


@pytest.mark.parametrize(
    ("accuracy", "quality", "level"),
    [
        (1, 0.66, INLIER),
        (1, 0.65, BOUNDARY),  # φ_r has to be above τ_h
        (1, 0.10, BOUNDARY),  # right by luck
        (0, 0.14, OUTLIER),
        (0, 0.15, BOUNDARY),  # φ_r has to be below τ_l
        (0, 0.99, BOUNDARY),  # wrong by a slip
        (2 / 3, 0.99, BOUNDARY),
        (1 / 3, 0.00, BOUNDARY),
    ],
)
def test_both_signals_have_to_agree_on_easy_and_too_hard(
    accuracy: float, quality: float, level: Difficulty
) -> None:
    assert classify(DifficultyEstimate(accuracy, quality), Signal.ACCURACY_AND_REWARD, PUBLISHED) is level


@pytest.mark.parametrize(
    ("accuracy", "level"), [(1, INLIER), (2 / 3, BOUNDARY), (1 / 3, BOUNDARY), (0, OUTLIER)]
)
@pytest.mark.parametrize("quality", [None, 0.0, 1.0])
def test_accuracy_alone_needs_no_reward(accuracy: float, quality: float | None, level: Difficulty) -> None:
    assert classify(DifficultyEstimate(accuracy, quality), Signal.ACCURACY, PUBLISHED) is level


@pytest.mark.parametrize(
    ("quality", "level"), [(0.66, INLIER), (0.65, BOUNDARY), (0.15, BOUNDARY), (0.14, OUTLIER)]
)
@pytest.mark.parametrize("accuracy", [0, 0.5, 1])
def test_reward_alone_does_not_look_at_verdicts(accuracy: float, quality: float, level: Difficulty) -> None:
    assert classify(DifficultyEstimate(accuracy, quality), Signal.REWARD, PUBLISHED) is level


@given(estimates)
def test_an_extreme_of_both_is_an_extreme_of_each(found: DifficultyEstimate) -> None:
    level = classify(found, Signal.ACCURACY_AND_REWARD, PUBLISHED)
    alone = {classify(found, signal, PUBLISHED) for signal in (Signal.ACCURACY, Signal.REWARD)}
    if level is not BOUNDARY:
        assert alone == {level}
    else:
        assert alone not in ({INLIER}, {OUTLIER})


@pytest.mark.parametrize("signal", [Signal.ACCURACY_AND_REWARD, Signal.REWARD])
def test_a_signal_that_needs_rewards_says_so_when_there_are_none(signal: Signal) -> None:
    assert signal.needs_reward
    with pytest.raises(BadInputError, match=f"{signal.value!r} needs rewards, and the samples have none"):
        classify(DifficultyEstimate(1.0, None), signal, PUBLISHED)


def test_every_sample_counts_by_its_own_row() -> None:
    assert estimate_difficulty([True, True, False], [0.25, 0.25, 1.0]) == DifficultyEstimate(2 / 3, 0.5)
    assert estimate_difficulty([True], None) == DifficultyEstimate(1.0, None)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1)), min_size=1, max_size=8))
def test_estimates_lie_between_their_samples(drawn: list[tuple[bool, float]]) -> None:
    correct, rewards = [right for right, _ in drawn], [reward for _, reward in drawn]
    found = estimate_difficulty(correct, rewards)
    assert (found.accuracy == 1) == all(correct)
    assert (found.accuracy == 0) == (not any(correct))
    assert found.process_quality is not None
    assert min(rewards) - 1e-9 <= found.process_quality <= max(rewards) + 1e-9


def test_without_pre_samples_there_is_no_estimate() -> None:
    with pytest.raises(BadInputError, match="without pre-samples"):
        estimate_difficulty([], [])


@pytest.mark.parametrize(
    ("low", "high"), [(0.65, 0.15), (0.5, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)]
)
def test_thresholds_are_ordered_and_within_the_range_of_rewards(low: float, high: float) -> None:
    with pytest.raises(BadInputError, match="0 ≤ tau_low < tau_high ≤ 1, got tau_low = "):
        Thresholds(low, high)


def test_thresholds_may_be_the_ends_of_that_range() -> None:
    assert Thresholds(0, 1) == Thresholds(0.0, 1.0)
