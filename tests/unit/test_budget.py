"""Budget: what an iteration may draw, and how the rest of it is spread (METHOD step 4)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.allocation.budget import Budget, allot
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError

INLIER, BOUNDARY, _ = Difficulty

budgets = st.integers(1, 12).flatmap(lambda n: st.builds(Budget, st.just(n), st.integers(1, n)))
keys, some_level = (
    st.text("0123456789abcdef", min_size=1, max_size=6),
    st.none() | st.sampled_from(Difficulty),
)
found_levels = st.dictionaries(keys, some_level, min_size=1, max_size=40)
chosen_levels = st.sets(st.sampled_from(Difficulty))


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
    expected = {(7, 2): "5444554333", (7, 3): "4544545333", (8, 2): "5554444333"}
    for (seed, iteration), spread in expected.items():
        allotments = allot(Budget(4, 3), levels, [BOUNDARY], seed=seed, iteration=iteration)
        assert "".join(map(str, allotments.values())) == spread


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
    backwards = allot(budget, dict(reversed(levels.items())), [BOUNDARY], seed=seed, iteration=0)
    assert allot(budget, levels, [BOUNDARY], seed=seed, iteration=0) == backwards


@pytest.mark.parametrize(("n", "n_p"), [(3, 4), (3, 0), (0, 0)])
def test_pre_samples_are_part_of_the_budget(n: int, n_p: int) -> None:
    with pytest.raises(BadInputError, match=f"1 ≤ n_p ≤ n, got n_p = {n_p}, n = {n}"):
        Budget(n, n_p)
