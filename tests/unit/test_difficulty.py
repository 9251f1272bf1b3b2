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

PUBLISHED, QUALITIES = Thresholds(0.15, 0.65), (0.14, 0.15, 0.65, 0.66)


@pytest.mark.parametrize(
    ("signal", "levels"),
    [
        (Signal.ACCURACY_AND_REWARD, ["BBBI", "BBBB", "BBBB", "OBBB"]),
        (Signal.ACCURACY, ["IIII", "BBBB", "BBBB", "OOOO"]),
        (Signal.REWARD, ["OBBI", "OBBI", "OBBI", "OBBI"]),
    ],
)
def test_one_signal_decides_alone_and_both_have_to_agree_on_easy_and_too_hard(
    signal: Signal, levels: list[str]
) -> None:
    """Rows: all right to none right. Columns: rewards below τ_l, at τ_l, at τ_h, above τ_h."""
    found = [
        [classify(DifficultyEstimate(right / 3, quality), signal, PUBLISHED) for quality in QUALITIES]
        for right in (3, 2, 1, 0)
    ]
    assert ["".join(level.name[0] for level in row) for row in found] == levels


def test_accuracy_alone_needs_no_reward() -> None:
    found = [classify(DifficultyEstimate(right / 2, None), Signal.ACCURACY, PUBLISHED) for right in (2, 1, 0)]
    assert found == list(Difficulty)


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
