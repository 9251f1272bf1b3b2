"""Measures of a process reward model, on examples that can be counted by hand."""

import pytest

from hsstar.domain.reward_quality import ReliabilityBin, ScoredResponse, held_out_keys, reward_quality

RESPONSES = [
    ScoredResponse("a", True, (0.5, 1.0), (0.75, 0.625)),
    ScoredResponse("a", False, (0.25, 0.0), (0.625, 0.125)),
    ScoredResponse("b", True, (None, 1.0), (0.125, 0.875)),
    ScoredResponse("b", False, (0.0, 0.0), (0.0,)),  # the context does not hold the last step
]


def test_rewards_are_measured_by_verdicts_and_labels() -> None:
    quality = reward_quality(RESPONSES, {})
    assert (quality.problems, quality.responses, quality.steps) == (2, 4, 6)
    # minima 0.625 and 0.125 of correct responses, 0.125 and 0 of incorrect ones: 3.5 of 4 pairs
    assert quality.auc == 3.5 / 4
    assert quality.auc_within == 1.0  # in both problems the correct one is above
    assert quality.label_error == pytest.approx((0.25 + 0.375 + 0.375 + 0.125 + 0.125 + 0.0) / 6)
    assert quality.gain is None  # no further verdict
    assert quality.reliability == [
        ReliabilityBin(0.0, 0.1, 1, 0.0, 0.0),
        ReliabilityBin(0.1, 0.2, 1, 0.125, 0.0),
        ReliabilityBin(0.6, 0.7, 2, 0.625, 0.625),
        ReliabilityBin(0.7, 0.8, 1, 0.75, 0.5),
        ReliabilityBin(0.8, 0.9, 1, 0.875, 1.0),
    ]


def test_without_both_verdicts_or_any_label_there_is_no_measure() -> None:
    quality = reward_quality([ScoredResponse("a", True, (None,), (0.5,))], {})
    assert (quality.auc, quality.auc_within, quality.label_error) == (None, None, None)
    assert quality.reliability == []


def test_a_reward_that_knows_the_problem_alone_tells_nothing_within_it() -> None:
    easy = [ScoredResponse("easy", place < 3, (0.5,), (0.9,)) for place in range(4)]
    hard = [ScoredResponse("hard", place < 1, (0.5,), (0.1,)) for place in range(4)]
    never = [ScoredResponse("never", False, (0.0,), (0.0,))]  # has one verdict: counts in the first alone
    quality = reward_quality([*easy, *hard, *never], {})
    assert quality.auc == (3 * (0.5 + 3 + 1) + 1 * (0.0 + 1.5 + 1)) / (4 * 5)
    assert quality.auc_within == 0.5


def test_a_certain_reward_belongs_to_the_last_bin() -> None:
    (last,) = reward_quality([ScoredResponse("a", True, (1.0,), (1.0,))], {}).reliability
    assert (last.low, last.high) == (0.9, 1.0)


def test_rewards_that_foretell_further_verdicts_gain_over_the_count() -> None:
    """All problems have one correct response of two; only rewards tell the easy ones from the hard ones."""
    responses = [
        ScoredResponse(f"{place:02}", correct, (0.5,), (0.9 if place % 4 < 2 else 0.1,))
        for place in range(24)
        for correct in (True, False)
    ]
    further = {f"{place:02}": (7, 1) if place % 4 < 2 else (1, 7) for place in range(24)}
    told = reward_quality(responses, further).gain
    assert told is not None and told > 0.2
    misled = dict.fromkeys(further, (4, 4))
    untold = reward_quality(responses, misled).gain
    assert untold is not None and untold < 0.01


def test_held_out_problems_are_a_seeded_share_and_neither_all_nor_none() -> None:
    keys = [str(number) for number in range(50)]
    held_out = held_out_keys([*keys, *keys], 0.2, seed=1)
    assert len(held_out) == 10 and held_out < set(keys)
    assert held_out == held_out_keys(reversed(keys), 0.2, seed=1) != held_out_keys(keys, 0.2, seed=2)
    assert [len(held_out_keys(keys[:count], 0.01, 0)) for count in (0, 1, 2, 3)] == [0, 0, 1, 1]
    assert len(held_out_keys(keys, 0.999, 0)) == 49
