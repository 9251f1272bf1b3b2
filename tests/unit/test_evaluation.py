"""Figures of an evaluation, their errors and intervals: by hand, from tables and by brute force."""

import math
import random
from dataclasses import replace
from itertools import combinations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.benchmarks import BENCHMARKS, Decoding, dataset_of, find_benchmark
from hsstar.domain.errors import BadInputError
from hsstar.domain.evaluation import ProblemOutcome, by_group, compare, differences, summarise
from hsstar.domain.statistics import (
    ConfidenceInterval,
    Mean,
    Resample,
    estimate,
    majority,
    mcnemar_exact,
    mean_of,
    paired_bootstrap,
    paired_difference,
    pass_at_k,
    student_cumulative,
    student_quantile,
)
from tests.generated import examples


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_pass_at_k_is_the_share_of_subsets_with_a_right_one(right: list[bool], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(right)))
    subsets = list(combinations(right, k))
    assert pass_at_k(len(right), sum(right), k) == pytest.approx(sum(map(any, subsets)) / len(subsets))
    assert [pass_at_k(32, correct, 32) for correct in (0, 1)] == [0, 1]


@pytest.mark.parametrize(("drawn", "correct", "k"), [(4, 1, 5), (4, 5, 1), (4, -1, 1), (4, 1, 0), (0, 0, 1)])
def test_pass_at_k_of_too_few_samples_is_refused(drawn: int, correct: int, k: int) -> None:
    with pytest.raises(BadInputError, match="pass@"):
        pass_at_k(drawn, correct, k)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_of_right_and_wrong_the_standard_error_is_binomial(right: list[bool]) -> None:
    share = sum(right) / len(right)
    error = math.sqrt(share * (1 - share) / max(1, len(right) - 1))
    found = estimate([float(each) for each in right])
    assert (found.mean, found.standard_error) == pytest.approx((share, error), abs=1e-12)


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12))
def test_the_majority_is_the_first_of_the_most_frequent_answers(votes: list[str | None]) -> None:
    cast = [vote for vote in votes if vote is not None]
    slow = next((vote for vote in cast if all(cast.count(vote) >= cast.count(other) for other in cast)), None)
    assert majority(votes) == slow


@examples(30)
@given(st.integers(0, 6), st.integers(0, 6))
def test_mcnemar_is_the_share_of_coin_throws_as_uneven(first: int, second: int) -> None:
    coins = first + second
    throws = [sum(throw) for throw in product((0, 1), repeat=coins)]
    as_uneven = sum(abs(2 * heads - coins) >= abs(first - second) for heads in throws)
    assert mcnemar_exact(first, second) == pytest.approx(as_uneven / len(throws))
    assert mcnemar_exact(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 4096)
    assert mcnemar_exact(1000, 900) == mcnemar_exact(900, 1000)


def chance(seed: int) -> Resample:
    generator = random.Random(seed)
    return lambda values: generator.choices(values, k=len(values))


def test_the_bootstrap_by_hand() -> None:
    assert paired_bootstrap([[0.25] * 7], chance(1)) == ConfidenceInterval(0.25, 0.25)
    two = paired_bootstrap([[0.5] * 3, [-0.5] * 900], chance(1))
    assert two == ConfidenceInterval(0, 0)  # benchmarks count alike, whatever their size
    values = [[(number * number % 97) / 97 for number in range(60)]]
    assert paired_bootstrap(values, chance(3)) == paired_bootstrap(values, chance(3))
    assert paired_bootstrap(values, chance(3)) != paired_bootstrap(values, chance(4))


@examples(20)
@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=4))
def test_the_bootstrap_against_all_resamples(values: list[float]) -> None:
    """Of the exact distribution, a share of about 2.5 % lies outside on either side."""
    means = [sum(each) / len(values) for each in product(values, repeat=len(values))]
    found = paired_bootstrap([values], chance(0))
    below, above = (mean < found.low - 1e-9 for mean in means), (mean > found.high + 1e-9 for mean in means)
    assert max(sum(below), sum(above)) <= 0.04 * len(means)
    assert sum(mean <= found.low + 1e-9 for mean in means) >= 0.01 * len(means)
    assert sum(mean >= found.high - 1e-9 for mean in means) >= 0.01 * len(means)


@pytest.mark.parametrize(("resamples", "low", "high"), [(1, 1, 1), (50, 2, 49), (2_000, 51, 1_950)])
def test_a_fortieth_of_the_resamples_lies_outside_on_either_side(resamples: int, low: int, high: int) -> None:
    means = iter(range(1, resamples + 1))
    assert paired_bootstrap([[0.0]], lambda _: [next(means)], resamples) == ConfidenceInterval(low, high)


def test_the_standard_error_is_that_of_the_mean() -> None:
    assert mean_of([1.0, 1.0, 5.0, 5.0]) == Mean(3, math.sqrt(16 / 3 / 4), 4)


def test_one_value_has_no_standard_error() -> None:
    assert mean_of([0.7]).standard_error is None
    alone = paired_difference([0.7], [0.5], 0.95)
    assert alone.mean.value == pytest.approx(0.2)
    assert (alone.low, alone.high, alone.excludes_zero) == (None, None, False)


def test_differences_are_taken_pair_by_pair() -> None:
    # differences 2, 3, 7: mean 4, variance (4 + 1 + 9) / 2 = 7; t with 2 degrees is 4.302653
    found = paired_difference([3, 5, 10], [1, 2, 3], 0.95)
    half = 4.302653 * math.sqrt(7 / 3)
    assert (found.mean.value, found.low, found.high) == pytest.approx((4, 4 - half, 4 + half), abs=1e-5)
    assert not found.excludes_zero
    assert paired_difference([3 + 50, 5, 10 - 4], [1 + 50, 2, 3 - 4], 0.95) == found


def test_an_interval_away_from_zero_says_so() -> None:
    assert paired_difference([1.0, 1.1, 1.2], [0.0, 0.0, 0.0], 0.95).excludes_zero
    assert paired_difference([0.0, 0.0, 0.0], [1.0, 1.1, 1.2], 0.95).excludes_zero


def test_quantiles_are_those_of_the_tables() -> None:
    places = [(0.975, 1), (0.975, 4), (0.95, 4), (0.995, 7), (0.975, 30), (0.975, 1000), (0.025, 4)]
    expected = [12.7062, 2.77645, 2.13185, 3.49948, 2.04227, 1.96234, -2.77645]
    assert [student_quantile(*place) for place in places] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [-3.0, -0.2, 0.0, 0.5, 2.0, 40.0])
def test_the_distribution_is_the_closed_form_where_there_is_one(value: float) -> None:
    assert student_cumulative(value, 1) == pytest.approx(0.5 + math.atan(value) / math.pi, abs=1e-12)
    two = 0.5 + value / (2 * math.sqrt(2 + value * value))
    assert student_cumulative(value, 2) == pytest.approx(two, abs=1e-12)


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadInputError, match="no values"):
        mean_of([])
    with pytest.raises(BadInputError, match="at least one problem"):
        estimate([])
    with pytest.raises(BadInputError, match="both models"):
        paired_bootstrap([[1.0], []], chance(0))
    with pytest.raises(BadInputError, match="cannot be paired"):
        paired_difference([1, 2], [1], 0.95)
    for probability, freedom in ((0.0, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(BadInputError, match="has no quantile"):
            student_quantile(probability, freedom)


def outcome(problem_id: int, drawn: int, correct: int) -> ProblemOutcome:
    return ProblemOutcome(
        problem_id, subject=None, level=None, readable=True, exclusion=None, without_verdict=0,
        tokens=10 * drawn, counted=drawn, truncated=0, ended=drawn, majority=correct > 0, drawn=drawn,
        correct=correct,
    )  # fmt: skip


RIGHT, WRONG = outcome(1, 1, 1), outcome(3, 1, 0)
UNREADABLE = replace(outcome(8, 0, 0), readable=False, exclusion="the reference answer cannot be read")
TOO_LONG = replace(outcome(9, 0, 0), exclusion="too long")


def test_every_problem_counts_in_the_accuracy() -> None:
    cut, unverified = replace(outcome(2, 1, 1), truncated=1, tokens=30), replace(WRONG, without_verdict=1)
    found = summarise([RIGHT, cut, unverified, UNREADABLE, TOO_LONG])
    assert (found.problems, found.unreadable, found.left_out, found.drawn) == (5, 1, 1, 3)
    assert (found.pass_at, found.majority, found.without_verdict) == ({}, None, 1)
    shares = (found.accuracy.mean, found.accuracy_readable, found.truncated_share, found.mean_tokens)
    assert shares == pytest.approx((2 / 5, 2 / 4, 1 / 3, 50 / 3))


def test_several_samples_give_average_pass_and_majority() -> None:
    """Of four samples each: all right, one right, none; and one problem without any sample."""
    one_right = replace(outcome(2, 4, 1), majority=False)
    found = summarise([outcome(1, 4, 4), one_right, outcome(3, 4, 0), TOO_LONG])
    assert found.accuracy.mean == pytest.approx((1 + 0.25) / 4)
    assert found.pass_at == pytest.approx({1: 1.25 / 4, 2: 1.5 / 4, 4: 2 / 4})
    assert found.majority == pytest.approx(1 / 4)


def test_pass_at_k_goes_as_far_as_the_fewest_samples_of_a_problem() -> None:
    found = summarise([outcome(1, 4, 2), outcome(2, 3, 0)]).pass_at
    assert found == pytest.approx({1: 0.5 / 2, 2: 5 / 6 / 2, 3: 1 / 2})


def test_what_is_unknown_is_none() -> None:
    found = summarise([replace(RIGHT, tokens=0, counted=0, ended=0), UNREADABLE])
    assert (found.mean_tokens, found.truncated_share) == (None, None)
    assert summarise([UNREADABLE]).accuracy_readable is None


def test_groups_are_ordered_and_leave_out_what_has_none() -> None:
    given = [replace(RIGHT, level="2"), replace(RIGHT, level="1"), RIGHT, replace(WRONG, level="2")]
    assert [*by_group(given, lambda each: each.level).items()] == [("1", [given[1]]), ("2", given[::3])]


def test_greedy_policies_are_compared_by_mcnemar() -> None:
    first = [outcome(number, 1, number < 6) for number in range(10)]
    second = [outcome(number, 1, number != 5) for number in range(10)] + [outcome(99, 1, 1)]
    found = compare(first, second, chance(0))
    assert (found.problems, found.only_first, found.only_second) == (10, 1, 4)
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(2 * (1 + 5) / 32)


def test_sampled_policies_are_compared_by_bootstrap_alone() -> None:
    found = compare([outcome(1, 4, 1), outcome(2, 4, 2)], [outcome(1, 4, 3), outcome(2, 4, 2)], chance(0))
    assert (found.difference, found.p_value, found.only_first) == (0.25, None, None)
    with pytest.raises(BadInputError, match="both models"):
        compare([RIGHT], [WRONG], chance(0))
    assert differences([outcome(1, 4, 1)], [outcome(1, 4, 3)]) == [0.5]


def test_the_published_protocol() -> None:
    assert sum(each.problems for each in BENCHMARKS.values()) == 5_654
    assert [name for name, each in BENCHMARKS.items() if not each.decoding.greedy] == ["aime24", "amc23"]
    assert BENCHMARKS["aime24"].decoding == Decoding(0.6, 0.95, 32, 2048)
    assert BENCHMARKS["aime24"].decoding.shown == "temperature 0.6, top-p 0.95, 32 samples, 2048 tokens"
    assert BENCHMARKS["gsm8k"].decoding.shown == "greedy, 2048 tokens"
    assert (dataset_of("gsm8k"), dataset_of("mine")) == ("benchmarks/gsm8k", "mine")
    with pytest.raises(BadInputError, match="no benchmark 'gsm9k'; known: gsm8k, math500"):
        find_benchmark("gsm9k")
