"""Figures over the problems of an evaluation, on an example that can be counted by hand."""

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from hsstar.domain.benchmarks import BENCHMARKS, Decoding, dataset_of, find_benchmark
from hsstar.domain.errors import BadInputError
from hsstar.domain.evaluation import ProblemOutcome, by_group, compare, differences, summarise


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
    assert found.accuracy.mean == pytest.approx(2 / 5)
    assert found.accuracy_readable == pytest.approx(2 / 4)
    assert (found.pass_at, found.majority, found.without_verdict) == ({}, None, 1)
    assert found.mean_tokens == pytest.approx(50 / 3)
    assert found.truncated_share == pytest.approx(1 / 3)


def test_several_samples_give_average_pass_and_majority() -> None:
    """Of four samples each: all right, one right, none; and one problem without any sample."""
    given = [outcome(1, 4, 4), replace(outcome(2, 4, 1), majority=False), outcome(3, 4, 0), TOO_LONG]
    found = summarise(given)
    assert found.accuracy.mean == pytest.approx((1 + 0.25) / 4)
    assert found.pass_at == pytest.approx({1: 1.25 / 4, 2: 1.5 / 4, 4: 2 / 4})
    assert found.majority == pytest.approx(1 / 4)


def test_pass_at_k_goes_as_far_as_the_fewest_samples_of_a_problem() -> None:
    assert summarise([outcome(1, 4, 2), outcome(2, 3, 0)]).pass_at == pytest.approx(
        {1: 0.5 / 2, 2: 5 / 6 / 2, 3: 1 / 2}
    )


def test_what_is_unknown_is_none() -> None:
    found = summarise([replace(RIGHT, tokens=0, counted=0, ended=0), UNREADABLE])
    assert (found.mean_tokens, found.truncated_share) == (None, None)
    assert summarise([UNREADABLE]).accuracy_readable is None


def test_groups_are_ordered_and_leave_out_what_has_none() -> None:
    given = [replace(RIGHT, level="2"), replace(RIGHT, level="1"), RIGHT, replace(WRONG, level="2")]
    assert [*by_group(given, lambda each: each.level).items()] == [("1", [given[1]]), ("2", given[::3])]


def resample(values: Sequence[float]) -> Sequence[float]:
    return random.Random(0).choices(values, k=len(values))


def test_greedy_policies_are_compared_by_mcnemar() -> None:
    first = [outcome(number, 1, number < 6) for number in range(10)]
    second = [outcome(number, 1, number != 5) for number in range(10)] + [outcome(99, 1, 1)]
    found = compare(first, second, resample)
    assert (found.problems, found.only_first, found.only_second) == (10, 1, 4)
    assert found.difference == pytest.approx(0.3)
    assert found.p_value == pytest.approx(2 * (1 + 5) / 32)


def test_sampled_policies_are_compared_by_bootstrap_alone() -> None:
    found = compare([outcome(1, 4, 1), outcome(2, 4, 2)], [outcome(1, 4, 3), outcome(2, 4, 2)], resample)
    assert (found.difference, found.p_value, found.only_first) == (0.25, None, None)
    with pytest.raises(BadInputError, match="both models"):
        compare([RIGHT], [WRONG], resample)
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
