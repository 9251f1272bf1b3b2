"""Budget: what an iteration may draw, and how the rest of it is spread (METHOD step 4)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.allocation.budget import Budget, allot
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError

INLIER, BOUNDARY, OUTLIER = Difficulty

budgets = st.integers(1, 12).flatmap(lambda n: st.builds(Budget, st.just(n), st.integers(1, n)))
found_levels = st.dictionaries(
    st.text("0123456789abcdef", min_size=1, max_size=6),
    st.one_of(st.none(), st.sampled_from(Difficulty)),
    min_size=1,
    max_size=40,
)
chosen_levels = st.sets(st.sampled_from(Difficulty))


def test_the_papers_iteration() -> None:
    budget = Budget(per_problem=8, pre_samples=3)
    assert budget.total(7_500) == 60_000
    assert budget.remaining(7_500) == 37_500


def test_the_remaining_budget_is_spread_over_the_boundary() -> None:
    levels = {"a": BOUNDARY, "b": INLIER, "c": OUTLIER, "d": BOUNDARY, "e": BOUNDARY, "f": None}
    allotments = allot(Budget(5, 2), levels, [BOUNDARY], seed=1, iteration=0)
    assert {key: allotments[key] for key in "bcf"} == {"b": 2, "c": 2, "f": 2}
    assert [allotments[key] for key in "ade"] == [8, 8, 8]  # 2 + 3 · 6 / 3


def test_the_remainder_goes_one_each_to_problems_picked_by_the_seed() -> None:
    levels = {str(number): BOUNDARY if number < 4 else INLIER for number in range(10)}
    picked = Counter[str]()
    for seed in range(200):
        allotments = allot(Budget(4, 3), levels, [BOUNDARY], seed=seed, iteration=0)
        assert sorted(allotments[str(number)] for number in range(4)) == [5, 5, 6, 6]  # 10 = 4 · 2 + 2
        picked.update(key for key, samples in allotments.items() if samples == 6)
    assert all(60 < picked[str(number)] < 140 for number in range(4))


def test_the_same_problems_get_the_remainder_in_every_release() -> None:
    levels = {str(number): BOUNDARY if number < 7 else INLIER for number in range(10)}
    spread = [
        allot(Budget(4, 3), levels, [BOUNDARY], seed=seed, iteration=iteration)
        for seed, iteration in ((7, 2), (7, 3), (8, 2))
    ]
    assert ["".join(str(samples) for samples in allotments.values()) for allotments in spread] == [
        "5444554333",
        "4544545333",
        "5554444333",
    ]


@given(budgets, found_levels, chosen_levels, st.integers(0, 2**31 - 1), st.integers(0, 5))
def test_the_budget_is_met_exactly_or_nothing_is_resampled(
    budget: Budget,
    levels: dict[str, Difficulty | None],
    resampled: set[Difficulty],
    seed: int,
    iteration: int,
) -> None:
    allotments = allot(budget, levels, resampled, seed=seed, iteration=iteration)
    chosen = [allotments[key] for key, level in levels.items() if level in resampled]
    others = [allotments[key] for key, level in levels.items() if level not in resampled]
    assert set(others) <= {budget.pre_samples}
    if chosen:
        assert sum(allotments.values()) == budget.total(len(levels))
        assert max(chosen) - min(chosen) <= 1
    else:
        assert sum(allotments.values()) == budget.pre_samples * len(levels)


@given(budgets, found_levels, st.integers(0, 2**31 - 1))
def test_the_order_of_problems_does_not_matter(
    budget: Budget, levels: dict[str, Difficulty | None], seed: int
) -> None:
    backwards = dict(reversed(levels.items()))
    assert allot(budget, levels, [BOUNDARY], seed=seed, iteration=0) == allot(
        budget, backwards, [BOUNDARY], seed=seed, iteration=0
    )


def test_uniform_sampling_leaves_nothing_to_spread() -> None:
    allotments = allot(Budget(8, 8), {"a": BOUNDARY, "b": INLIER}, [BOUNDARY], seed=0, iteration=0)
    assert allotments == {"a": 8, "b": 8}


@pytest.mark.parametrize(("n", "n_p"), [(3, 4), (3, 0), (0, 0)])
def test_pre_samples_are_part_of_the_budget(n: int, n_p: int) -> None:
    with pytest.raises(BadInputError, match=f"1 ≤ n_p ≤ n, got n_p = {n_p}, n = {n}"):
        Budget(n, n_p)
