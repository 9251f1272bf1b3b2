"""The figures of an evaluation against values computed by hand and by brute force."""

import random
from itertools import combinations, product
from math import sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsstar.domain.errors import BadInputError
from hsstar.domain.statistics import (
    Resample,
    estimate,
    majority,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
)


@pytest.mark.parametrize(
    ("drawn", "correct", "k", "expected"),
    [
        (4, 1, 1, 0.25),
        (4, 1, 2, 0.5),  # 1 − C(3,2)/C(4,2) = 1 − 3/6
        (4, 2, 2, 5 / 6),  # 1 − 1/6
        (4, 2, 3, 1.0),  # two wrong ones cannot fill three places
        (32, 0, 32, 0.0),
        (32, 1, 32, 1.0),
        (5, 5, 1, 1.0),
    ],
)
def test_pass_at_k_by_hand(drawn: int, correct: int, k: int, expected: float) -> None:
    assert pass_at_k(drawn, correct, k) == pytest.approx(expected)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(combinations(right, k))
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))


@pytest.mark.parametrize(("drawn", "correct", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0), (0, 0, 1)])
def test_pass_at_k_of_too_few_samples_is_refused(drawn: int, correct: int, k: int) -> None:
    with pytest.raises(BadInputError, match="pass@"):
        pass_at_k(drawn, correct, k)


def test_the_standard_error_by_hand() -> None:
    found = estimate([1.0, 1.0, 0.5, 0.0])
    assert found.mean == 0.625
    assert found.standard_error == pytest.approx(sqrt((2 * 0.375**2 + 0.125**2 + 0.625**2) / 3 / 4))
    assert estimate([0.5]).standard_error == 0
    with pytest.raises(BadInputError, match="at least one problem"):
        estimate([])


@given(st.lists(st.booleans(), min_size=2, max_size=50))
def test_of_right_and_wrong_the_standard_error_is_binomial(right: list[bool]) -> None:
    share = sum(right) / len(right)
    found = estimate([float(each) for each in right])
    assert found.standard_error == pytest.approx(sqrt(share * (1 - share) / (len(right) - 1)), abs=1e-12)


def test_the_majority_by_hand() -> None:
    assert majority(["4", "7", "7"]) == "7"
    assert majority(["4", "7", "7", "4"]) == "4"  # said first
    assert majority([None, None, "7"]) == "7"  # no answer is no vote
    assert majority([None, None]) is None
    assert majority([]) is None


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_the_majority_is_the_first_of_the_most_frequent(votes: list[str | None]) -> None:
    cast = [vote for vote in votes if vote is not None]
    slow = next((vote for vote in cast if all(cast.count(vote) >= cast.count(other) for other in cast)), None)
    assert majority(votes) == slow


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (0, 0, 1.0),
        (0, 5, 2 / 32),
        (5, 0, 2 / 32),
        (1, 5, 2 * (1 + 6) / 64),
        (3, 3, 1.0),
        (2, 10, 2 * (1 + 12 + 66) / 4096),
    ],
)
def test_mcnemar_by_hand(first: int, second: int, expected: float) -> None:
    assert mcnemar_exact(first, second) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6))
def test_mcnemar_is_the_share_of_coin_throws_as_uneven(first: int, second: int) -> None:
    coins = first + second
    throws = [sum(throw) for throw in product((0, 1), repeat=coins)]
    as_uneven = sum(abs(2 * heads - coins) >= abs(first - second) for heads in throws)
    assert mcnemar_exact(first, second) == pytest.approx(as_uneven / len(throws))
    assert mcnemar_exact(1000, 900) == mcnemar_exact(900, 1000)


def chance(seed: int) -> Resample:
    generator = random.Random(seed)
    return lambda values: generator.choices(values, k=len(values))


def test_the_bootstrap_by_hand() -> None:
    constant = paired_bootstrap([[0.25] * 7], chance(1))
    assert (constant.low, constant.high) == (0.25, 0.25)
    two = paired_bootstrap([[0.5] * 3, [-0.5] * 900], chance(1))
    assert (two.low, two.high) == (0, 0)  # benchmarks count alike, whatever their size
    values = [[(number * number % 97) / 97 for number in range(60)]]
    assert paired_bootstrap(values, chance(3)) == paired_bootstrap(values, chance(3))
    assert paired_bootstrap(values, chance(3)) != paired_bootstrap(values, chance(4))
    with pytest.raises(BadInputError, match="both models"):
        paired_bootstrap([[1.0], []], chance(0))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=4))
def test_the_bootstrap_against_all_resamples(values: list[float]) -> None:
    """Of the exact distribution, a share of about 2.5 % lies outside on either side."""
    means = [sum(each) / len(values) for each in product(values, repeat=len(values))]
    found = paired_bootstrap([values], chance(0))
    below = sum(mean < found.low - 1e-9 for mean in means) / len(means)
    above = sum(mean > found.high + 1e-9 for mean in means) / len(means)
    assert max(below, above) <= 0.04
    assert sum(mean <= found.low + 1e-9 for mean in means) / len(means) >= 0.01
    assert sum(mean >= found.high - 1e-9 for mean in means) / len(means) >= 0.01


def test_a_wide_sample_gives_the_interval_of_the_normal_law() -> None:
    values = [1.0] * 60 + [0.0] * 40
    found = paired_bootstrap([values], chance(0))
    error = 1.96 * sqrt(0.6 * 0.4 / 100)
    assert found.low == pytest.approx(0.6 - error, abs=0.02)
    assert found.high == pytest.approx(0.6 + error, abs=0.02)
