"""Means, standard errors and paired t intervals, against values worked out by hand or from tables."""

import math

import pytest

from hsstar.domain.errors import BadInputError
from hsstar.domain.statistics import (
    mean_of,
    paired_difference,
    student_cumulative,
    student_quantile,
)


def test_the_standard_error_is_that_of_the_mean() -> None:
    found = mean_of([2.0, 4.0, 4.0, 6.0])
    assert found.value == 4
    assert found.standard_error == pytest.approx(math.sqrt((4 + 0 + 0 + 4) / 3 / 4))
    assert found.count == 4


def test_one_value_has_no_standard_error() -> None:
    assert mean_of([0.7]).standard_error is None
    alone = paired_difference([0.7], [0.5], 0.95)
    assert alone.mean.value == pytest.approx(0.2)
    assert (alone.low, alone.high) == (None, None)
    assert not alone.excludes_zero


def test_differences_are_taken_pair_by_pair() -> None:
    # differences 2, 3, 7: mean 4, variance (4 + 1 + 9) / 2 = 7; t with 2 degrees is 4.302653
    found = paired_difference([3, 5, 10], [1, 2, 3], 0.95)
    half = 4.302653 * math.sqrt(7 / 3)
    assert found.mean.value == 4
    assert found.low == pytest.approx(4 - half, abs=1e-5)
    assert found.high == pytest.approx(4 + half, abs=1e-5)
    assert not found.excludes_zero


def test_a_common_shift_of_a_pair_changes_nothing() -> None:
    plain = paired_difference([3, 5, 10], [1, 2, 3], 0.9)
    shifted = paired_difference([3 + 50, 5, 10 - 4], [1 + 50, 2, 3 - 4], 0.9)
    assert shifted == plain


def test_an_interval_away_from_zero_says_so() -> None:
    assert paired_difference([1.0, 1.1, 1.2], [0.0, 0.0, 0.0], 0.95).excludes_zero
    assert paired_difference([0.0, 0.0, 0.0], [1.0, 1.1, 1.2], 0.95).excludes_zero


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [
        (0.975, 1, 12.7062),
        (0.975, 4, 2.77645),
        (0.95, 4, 2.13185),
        (0.995, 7, 3.49948),
        (0.975, 30, 2.04227),
        (0.975, 1000, 1.96234),
        (0.025, 4, -2.77645),
    ],
)
def test_quantiles_are_those_of_the_tables(probability: float, freedom: int, value: float) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(value, abs=1e-5 * max(1, abs(value)))


@pytest.mark.parametrize("value", [-3.0, -0.2, 0.0, 0.5, 2.0, 40.0])
def test_the_distribution_is_the_closed_form_where_there_is_one(value: float) -> None:
    assert student_cumulative(value, 1) == pytest.approx(0.5 + math.atan(value) / math.pi, abs=1e-12)
    two = 0.5 + value / (2 * math.sqrt(2 + value * value))
    assert student_cumulative(value, 2) == pytest.approx(two, abs=1e-12)


def test_nonsense_is_refused() -> None:
    with pytest.raises(BadInputError, match="no values"):
        mean_of([])
    with pytest.raises(BadInputError, match="cannot be paired"):
        paired_difference([1, 2], [1], 0.95)
    for probability, freedom in ((0.0, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(BadInputError, match="has no quantile"):
            student_quantile(probability, freedom)
