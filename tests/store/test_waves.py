"""The waves of an allocation: what SQL gives away is what the pure rules say, and the ledger says why."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.domain.allocation import sharing
from hsstar.domain.allocation.belief import FLAT, Beliefs, beta_prior, empirical_prior
from hsstar.domain.allocation.policy import Settings, State, find_policy, make_table
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.verdict import Cause
from hsstar.store import allocation, rounds
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import Drawn, add_iteration, add_problems, add_run, select

N, N_P, LIMIT = 5, 2, 3
ROWS: list[Sequence[float]] = [()]
"""What the policy of these tests gives, by what a state adds up to."""


def drawn_gains(state: State, most: int, beliefs: Beliefs, values: Settings) -> Sequence[float]:
    """A user's own policy: any table, with many equal gains."""
    level = 0 if state.level is None else 1 + list(Difficulty).index(state.level)
    return ROWS[(7 * state.correct + 3 * state.incorrect + state.drawn + level) % len(ROWS)][:most]


gains = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=LIMIT * N).map(
    lambda row: sorted(row, reverse=True)
)
CAUSE_OF = {"c": Cause.CORRECT, "i": Cause.INCORRECT, "u": Cause.TIMED_OUT}
CAUSES = [Cause.CORRECT, Cause.INCORRECT, Cause.INCORRECT, Cause.TIMED_OUT]
LEDGER = """
    SELECT problem_id, slot, reason, wave, correct_before, incorrect_before, place, gain FROM budget_ledger
    WHERE run = :run
"""


@examples(60)
@given(
    st.lists(st.tuples(st.none() | st.sampled_from(Difficulty), st.booleans()), min_size=1, max_size=12),
    st.lists(gains, min_size=1, max_size=9),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_each_wave_gives_what_the_pure_rule_gives(
    scratch: Scratch,
    problems: list[tuple[Difficulty | None, bool]],
    rows: list[list[float]],
    waves: int,
    chance: random.Random,
) -> None:
    ROWS[:] = rows
    recipe = factory.make_recipe(
        seed=chance.randrange(1000),
        sampling={"n": N, "n_p": N_P},
        allocation={"policy": f"{__name__}:drawn_gains", "waves": waves, "limit": LIMIT, "prior": [1, 1]},
    )
    with scratch() as connection:
        run, ids = add_run(connection, recipe), add_problems(connection, len(problems))
        iteration = add_iteration(connection, run, ids[::-1], number=chance.randrange(3))
        keys = factory.keys_of(connection, ids)
        left_out = [key for key, (_, out) in zip(ids, problems, strict=True) if out and key != ids[0]]
        rounds.exclude(connection, iteration.id, dict.fromkeys(left_out, "too long"))
        levels = {key: level for key, (level, _) in zip(ids, problems, strict=True)}
        factory.add_labels(connection, iteration.id, levels)
        verdicts: dict[int, list[Cause]] = {key: [] for key in ids if key not in left_out}

        def draw(numbers: dict[int, int]) -> None:
            drawn = {}
            for key, number in numbers.items():
                begin = len(verdicts[key])
                verdicts[key] += chance.choices(CAUSES, k=number)
                drawn[key] = {slot: Drawn(verdicts[key][slot], 0.5) for slot in range(begin, begin + number)}
            factory.add_samples(connection, iteration.id, drawn)

        draw(dict.fromkeys(verdicts, N_P))
        ledger: list[tuple[Any, ...]] = [
            (key, slot, "pre", *[None] * 5) for key in verdicts for slot in range(N_P)
        ]
        left = (N - N_P) * len(problems)
        for wave in range(waves):
            states = {}
            for key, known in verdicts.items():
                counts = Counter(known)
                states[keys[key]] = State(
                    counts[Cause.CORRECT], counts[Cause.INCORRECT], len(known), levels[key]
                )
            budget = left // (waves - wave)
            policy = find_policy(recipe.allocation.policy)
            table = make_table(
                policy, Counter(states.values()), budget, Beliefs(FLAT, LIMIT * N), recipe.allocation_settings
            )
            address = {"seed": recipe.seed, "iteration": iteration.number}
            expected = sharing.allot(states, table, budget, **address)
            factory.allot_budget(connection, run, iteration, at_once=chance.randint(1, 5))
            query = "SELECT problem_id, samples FROM allocations WHERE round_id = :id AND wave = :wave"
            given_away = dict(select(connection, query, id=iteration.id, wave=wave))
            assert {keys[key]: samples for key, samples in given_away.items()} == expected
            for key, samples in given_away.items():
                state = states[keys[key]]
                ledger += [
                    (key, state.drawn + place, "wave", wave, state.correct, state.incorrect, place, gain)
                    for place, gain in enumerate(table[state][:samples])
                ]
            draw(given_away)
            left -= sum(given_away.values())
        assert allocation.decided_waves(connection, iteration) == waves
        assert not allocation.open_wave(connection, run, iteration, waves - 1)
        query = "SELECT problem_id, allotment FROM round_problems WHERE exclusion IS NULL"
        assert dict(select(connection, query)) == {key: len(known) for key, known in verdicts.items()}
        assert sorted(select(connection, LEDGER, run=run.name)) == sorted(ledger)
        query = "SELECT problem_id, slot, wave_of(round_id, problem_id, slot) FROM samples"
        numbers = [(key, slot, 0 if wave is None else wave + 1) for key, slot, _, wave, *_ in ledger]
        assert sorted(select(connection, query)) == sorted(numbers)


@pytest.mark.parametrize(
    ("prior_of", "n_p"), [("empirical", 2), ("history", 2), ("empirical", 1), ([2.0, 3.0], 2), ("history", 1)]
)
def test_the_prior_is_that_of_the_recipe(connection: Connection, prior_of: Any, n_p: int) -> None:
    recipe = factory.make_recipe(
        sampling={"n": N, "n_p": n_p}, allocation={"policy": "pairs", "prior": prior_of}
    )
    run, ids = add_run(connection, recipe), add_problems(connection, 4)
    weights: defaultdict[tuple[int, int], float] = defaultdict(float)
    for number, causes in enumerate((["ccii", "iiii"], ["cc", "iu"], ["ci", "ii"])):
        own = ids[:2] if number % 2 else ids[2:]
        iteration = add_iteration(connection, run, own, number)
        drawn = {
            problem: {slot: Drawn(CAUSE_OF[letter], 0.5) for slot, letter in enumerate(word)}
            for problem, word in zip(own, causes, strict=True)
        }
        if number == 2:
            drawn = {problem: {slot: of[slot] for slot in range(n_p)} for problem, of in drawn.items()}
        factory.add_samples(connection, iteration.id, drawn)
        if number == 2 or prior_of == "history":
            for of in drawn.values():
                known = Counter(sample.cause for sample in of.values())
                weights[known[Cause.CORRECT], known[Cause.INCORRECT]] += 0.5 ** (2 - number)
    factory.allot_budget(connection, run, iteration)
    ((prior,),) = select(connection, "SELECT prior FROM allocation_waves")
    if isinstance(prior_of, list):
        assert prior == beta_prior(2.0, 3.0)
    elif n_p == 1 and prior_of == "empirical":
        assert prior == beta_prior(0.5, 0.5)
    else:
        assert prior == empirical_prior(weights)
