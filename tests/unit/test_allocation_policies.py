"""Gain tables, beliefs and shares: what must hold of them whatever the states."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.allocation import budget as levels_rule
from hsstar.domain.allocation.belief import FLAT, GRID, Beliefs, beta_prior, empirical_prior
from hsstar.domain.allocation.policies import pairs
from hsstar.domain.allocation.policy import Policy, Settings, State, find_policy, make_table
from hsstar.domain.allocation.sharing import allot, share_out
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.errors import BadInputError
from hsstar.testing import BrokenPromiseError, check_policy
from tests.generated import examples

MOST = 12
OURS = ("levels", "uniform", "proportional", "variance", "knapsack", "stop", "pairs")


@st.composite
def states(draw: st.DrawFn, at_least: int = 0) -> State:
    correct, incorrect = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    drawn = max(at_least, correct + incorrect + draw(st.integers(0, 2)))
    return State(correct, incorrect, drawn, draw(st.none() | st.sampled_from(Difficulty)))


rounds_of_problems = st.dictionaries(states(2), st.integers(1, 30), min_size=1, max_size=8)
chosen = st.builds(
    Settings,
    st.frozensets(st.sampled_from(Difficulty)),
    st.sampled_from(("cap", "fading", "count")),
    st.integers(1, 5),
    st.floats(0.1, 0.99),
)


def exact_moment(prior: list[float], counts: tuple[int, int], x: int, y: int) -> Fraction:
    """E[p^x (1−p)^y] in exact numbers."""

    def evidence(right: int, wrong: int) -> Fraction:
        return sum(
            (
                Fraction(weight) * Fraction(rate) ** right * (1 - Fraction(rate)) ** wrong
                for weight, rate in zip(prior, GRID, strict=True)
            ),
            Fraction(),
        )

    return evidence(counts[0] + x, counts[1] + y) / evidence(*counts)


@pytest.mark.parametrize("name", OURS)
def test_every_policy_of_ours_keeps_the_contract(name: str) -> None:
    check_policy(find_policy(name).gains)


def test_the_contract_notices_a_policy_that_remembers() -> None:
    calls = itertools.count()

    def remembering(state: State, most: int, *_: object) -> list[float]:
        return [1 / (1 + next(calls))] * min(1, most)

    with pytest.raises(BrokenPromiseError, match="the same gains when asked again"):
        check_policy(remembering)
    with pytest.raises(BrokenPromiseError, match="none greater than the one before"):
        check_policy(lambda state, most, *_: [1.0, 2.0][:most])


@given(rounds_of_problems, st.integers(0, 4), st.integers(0, 4), st.integers(0, 5), st.integers(0, 5))
@examples(50)
def test_moments_are_those_of_exact_numbers(
    problems: dict[State, int], correct: int, incorrect: int, x: int, y: int
) -> None:
    prior = empirical_prior({(state.correct, state.incorrect): n for state, n in problems.items()})
    assert math.isclose(sum(prior), 1)
    beliefs = Beliefs([max(weight, 1e-9) for weight in prior], MOST)
    expected = exact_moment(list(beliefs.prior), (correct, incorrect), x, y)
    assert math.isclose(beliefs.moment((correct, incorrect), x, y), expected, rel_tol=1e-9)
    weights = beliefs.weights((correct, incorrect))
    mean = sum(weight * rate for weight, rate in zip(weights, GRID, strict=True))
    assert math.isclose(mean, beliefs.moment((correct, incorrect), 1, 0), rel_tol=1e-9)


def test_the_empirical_prior_finds_what_the_counts_come_from() -> None:
    """Half of the problems have p = 0.1, half p = 0.9: 8 samples each, in the expected numbers."""
    expected: Counter[tuple[int, int]] = Counter()
    for rate in (0.1, 0.9):
        for right in range(9):
            expected[right, 8 - right] += round(
                1e5 * math.comb(8, right) * rate**right * (1 - rate) ** (8 - right)
            )
    prior = empirical_prior(expected)
    low, high = (
        sum(weight for weight, rate in zip(prior, GRID, strict=True) if abs(rate - near) < 0.11)
        for near in (0.1, 0.9)
    )
    assert low == pytest.approx(0.5, abs=0.03)
    assert high == pytest.approx(0.5, abs=0.03)


def test_the_order_of_the_counts_is_irrelevant_to_the_last_bit() -> None:
    counts = {(0, 3): 30.0, (1, 2): 11.0, (2, 1): 7.0, (3, 0): 52.0}
    orders = (dict(order) for order in itertools.permutations(counts.items()))
    assert len({tuple(empirical_prior(order)) for order in orders}) == 1


def test_a_beta_prior_has_the_moments_of_its_distribution() -> None:
    for a, b in ((2.0, 5.0), (1.0, 1.0), (0.5, 0.5)):
        prior = beta_prior(a, b)
        mean = sum(weight * rate for weight, rate in zip(prior, GRID, strict=True))
        assert mean == pytest.approx(a / (a + b), abs=0.02)


@given(st.sampled_from(OURS), rounds_of_problems, st.integers(0, 200), chosen)
@examples(150)
def test_tables_fall_and_the_budget_goes_to_their_greatest_entries(
    name: str, problems: dict[State, int], budget: int, values: Settings
) -> None:
    policy, beliefs = find_policy(name), Beliefs(FLAT, MOST)
    table = make_table(policy, problems, budget, beliefs, values)
    for state, row in table.items():
        assert list(row) == sorted(row, reverse=True)
        assert len(row) <= MOST - state.drawn or not policy.limited
    shares = share_out(problems, table, budget)
    offered = sum(problems[state] * sum(gain > 0 for gain in row) for state, row in table.items())
    given_away = (
        sum(problems[state] * share.samples for state, share in shares.by_state.items()) + shares.rest
    )
    assert given_away == min(budget, offered)
    some = sum(problems[state] for state, share in shares.by_state.items() if share.one_more)
    assert shares.rest < some or shares.rest == some == 0

    keyed = {
        f"p{place}": state
        for place, state in enumerate(
            itertools.chain.from_iterable([state] * number for state, number in problems.items())
        )
    }
    expected = allot(keyed, table, budget, seed=3, iteration=1)
    by_state: dict[State, Counter[int]] = {state: Counter() for state in problems}
    for key, samples in expected.items():
        by_state[keyed[key]][samples - shares.by_state[keyed[key]].samples] += 1
    assert sum(counter[1] for counter in by_state.values()) == shares.rest
    assert all(set(counter) <= {0, 1} for counter in by_state.values())


@given(
    st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.sampled_from(Difficulty), min_size=1, max_size=9
    ),
    st.sets(st.sampled_from(Difficulty)),
    st.integers(1, 8),
    st.integers(0, 99),
)
def test_levels_give_what_the_rule_of_the_paper_gives_problem_by_problem(
    levels: dict[str, Difficulty], resampled: set[Difficulty], n: int, seed: int
) -> None:
    spent = levels_rule.Budget(n, 1)
    keyed = {key: State(0, 1, 1, level) for key, level in levels.items()}
    problems = Counter(keyed.values())
    budget = spent.remaining(len(levels))
    values = Settings(resampled=frozenset(resampled))
    table = make_table(find_policy("levels"), problems, budget, Beliefs(FLAT, n), values)
    given_away = allot(keyed, table, budget, seed=seed, iteration=2)
    rule = levels_rule.allot(spent, levels, resampled, seed=seed, iteration=2)
    assert {key: 1 + samples for key, samples in given_away.items()} == rule


@given(st.lists(st.floats(0, 10), min_size=2, max_size=12))
def test_the_majorant_is_concave_touches_and_is_nowhere_below(values: list[float]) -> None:
    values = [values[0], *itertools.accumulate(values[1:], initial=values[0])][1:]
    slopes = pairs.majorant(values)
    assert len(slopes) == len(values) - 1
    assert slopes == sorted(slopes, reverse=True)
    heights = list(itertools.accumulate(slopes, initial=values[0]))
    touching = [math.isclose(high, value, abs_tol=1e-9) for high, value in zip(heights, values, strict=True)]
    assert all(high > value - 1e-9 for high, value in zip(heights, values, strict=True))
    assert touching[0]
    assert touching[-1]
    for place in range(1, len(slopes)):
        assert touching[place] or slopes[place] == slopes[place - 1]


def test_pairs_beats_every_other_table_in_expected_worth() -> None:
    """On a known prior the worth of what a table gives away is V; its own concave steps are the best."""
    problems = {
        State(c, 3 - c, 3, Difficulty.BOUNDARY if 0 < c < 3 else None): n
        for c, n in enumerate((40, 25, 20, 15))
    }
    beliefs, values = Beliefs(beta_prior(0.6, 0.7), 16), Settings(pairs=4)
    worth = {}
    for name in OURS:
        table = make_table(find_policy(name), problems, 500, beliefs, values)
        shares = share_out(problems, table, 500)
        worth[name] = sum(
            problems[state] * pairs.expected_worth(state, 13, beliefs, values)[min(share.samples, 13)]
            for state, share in shares.by_state.items()
        )
    assert max(worth, key=worth.__getitem__) == "pairs", worth


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, 2.0], "none greater than the one before"),
        ([1.0, -1.0], "numbers from 0"),
        ([float("nan")], "numbers from 0"),
        ([float("inf")], "numbers from 0"),
        ([1.0] * 11, "11 gains, and 10 are left"),
    ],
)
def test_what_is_no_table_is_refused(row: list[float], message: str) -> None:
    policy = Policy(lambda *_: row, limited=True)
    with pytest.raises(BadInputError, match=message):
        make_table(policy, {State(1, 1, 2): 1}, 5, Beliefs(FLAT, MOST), Settings())


@pytest.mark.parametrize(
    "name", ["nonsense", "no.such:gains", "hsstar.domain.seeds:nothing", "math:pi", ":", "a:b:c"]
)
def test_a_policy_that_cannot_be_loaded_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(BadInputError, match=r"allocation\.policy") as failure:
        find_policy(name)
    assert "\n" not in str(failure.value)


def test_a_function_of_ones_own_is_found() -> None:
    policy = find_policy("hsstar.domain.allocation.policies.stop:gains")
    assert policy.limited
    assert list(policy.gains(State(0, 3, 3), 2, Beliefs(FLAT, MOST), Settings())) == [1, 0.5]
