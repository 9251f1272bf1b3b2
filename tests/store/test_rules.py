"""The rules of the method as SQL say what the pure ones say, on generated cases in real rows."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from hsstar.domain import preference, seeds
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty, Signal, classify, estimate_difficulty
from hsstar.domain.preference import Candidate, PairRule
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.recipe.recipe import Recipe
from hsstar.store import datasets, method, rounds, training
from hsstar.store.rounds import Round
from hsstar.store.runs import Run
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import (
    HELDOUT,
    TRAIN,
    Drawn,
    add_iteration,
    add_problems,
    add_run,
    make_recipe,
    select,
)

CASES = settings(max_examples=60, deadline=None)

GRID = 8
"""Minimum rewards and thresholds are multiples of 1/8: sums are exact, and means often lie at a threshold."""

rewards = st.integers(0, GRID).map(lambda step: step / GRID)
causes = st.sampled_from(Cause)
levels = st.sampled_from(Difficulty)
maybe_level = st.one_of(levels, st.none())
now_and_then = st.sampled_from([False, False, False, True])
run_seeds = st.integers(0, 2**31 - 1)


class State(NamedTuple):
    """A problem of an iteration."""

    left_out: bool
    level: Difficulty | None
    drawn: list[Drawn]


@contextmanager
def iteration_of(
    scratch: Scratch, recipe: Recipe, states: Sequence[State], number: int = 0
) -> Iterator[tuple[Connection, Run, Round, dict[int, State]]]:
    """An iteration over these problems, the last one first, and their states by id."""
    with scratch() as connection:
        run, ids = add_run(connection, recipe), add_problems(connection, len(states))
        iteration = add_iteration(connection, run, ids[::-1], number)
        by_id = dict(zip(ids, states, strict=True))
        samples = {key: dict(enumerate(state.drawn)) for key, state in by_id.items()}
        factory.add_samples(connection, iteration.id, samples)
        factory.add_labels(connection, iteration.id, {key: state.level for key, state in by_id.items()})
        left_out = {key: "too long" for key, state in by_id.items() if state.left_out}
        rounds.exclude(connection, iteration.id, left_out)
        yield connection, run, iteration, by_id


def labelling(signal: Signal, n_p: int, low: float, high: float, *, scored: bool) -> Recipe:
    return make_recipe(
        sampling={"n": 8, "n_p": n_p},
        reward={"model": "prm" if scored else "none"},
        pairs={"rule": "random"},
        difficulty={"signal": signal, "tau_low": low, "tau_high": high},
    )


@st.composite
def estimated_problems(draw: st.DrawFn) -> tuple[Recipe, list[State]]:
    """A recipe, and some problems with their pre-samples, extremes often."""
    signal, n_p = draw(st.sampled_from(Signal)), draw(st.integers(1, 4))
    low, high = sorted(draw(st.lists(rewards, min_size=2, max_size=2, unique=True)))
    likely = st.one_of(st.just(Cause.CORRECT), st.just(Cause.INCORRECT), st.none(), causes)
    problems = []
    for _ in range(draw(st.integers(1, 6))):
        cause = st.one_of(st.just(draw(likely)), likely)
        reward = st.one_of(st.just(draw(rewards)), rewards, st.none())
        pre_samples = draw(st.lists(st.builds(Drawn, cause, reward), min_size=n_p, max_size=n_p))
        problems.append(State(draw(now_and_then), None, pre_samples))
    return labelling(signal, n_p, low, high, scored=signal.needs_reward or draw(st.booleans())), problems


LOW, HIGH = 2 / GRID, 6 / GRID
AT_THE_THRESHOLDS = [
    State(False, None, [Drawn(Cause.INCORRECT, LOW)]),
    State(False, None, [Drawn(Cause.CORRECT, HIGH)]),
]


@CASES
@given(estimated_problems(), st.integers(0, 6))
@example((labelling(Signal.ACCURACY_AND_REWARD, 1, LOW, HIGH, scored=True), AT_THE_THRESHOLDS), 0)
@example((labelling(Signal.REWARD, 1, LOW, HIGH, scored=True), AT_THE_THRESHOLDS), 0)
def test_labels_are_those_of_the_pure_rule(
    scratch: Scratch, generated: tuple[Recipe, list[State]], first: int
) -> None:
    """First those of the `first` problems, then all."""
    recipe, problems = generated
    scored = recipe.reward.used
    # one sample more than the pre-samples: a re-sample never moves a label
    late = Drawn(Cause.INCORRECT, 0.0)
    sampled = [problem._replace(drawn=[*problem.drawn, late]) for problem in problems]
    with iteration_of(scratch, recipe, sampled) as (connection, run, iteration, by_id):
        expected = {}
        for problem_id, (left_out, _, (*drawn, _)) in by_id.items():
            unjudged = any(of.cause is None or (scored and of.reward is None) for of in drawn)
            if left_out or unjudged or any(of.cause is Cause.BAD_REFERENCE for of in drawn):
                continue
            right = [of.cause is Cause.CORRECT for of in drawn]
            found = estimate_difficulty(right, [of.reward or 0.0 for of in drawn] if scored else None)
            level = classify(found, recipe.difficulty.signal, recipe.difficulty.thresholds)
            expected[problem_id] = (level, found.accuracy, found.process_quality)
        early = list(by_id)[:first]
        for only, new in ((early, expected.keys() & early), (None, expected.keys() - early)):
            assert method.label_problems(connection, run, iteration, only) == len(new)
        query = "SELECT problem_id, level, accuracy, process_quality FROM difficulty_labels"
        assert {row[0]: row[1:] for row in select(connection, query)} == expected
        assert method.label_problems(connection, run, iteration) == 0


@CASES
@given(
    st.builds(
        make_recipe,
        seed=run_seeds,
        sampling=st.tuples(st.integers(1, 8), st.integers(1, 8)).map(
            lambda of: {"n": max(of), "n_p": min(of)}
        ),
        difficulty=st.lists(levels, unique=True, max_size=3).map(
            lambda of: {"resample": of, "train": [*Difficulty]}
        ),
    ),
    st.lists(st.builds(State, now_and_then, maybe_level, st.just([])), min_size=1, max_size=25),
    st.integers(0, 3),
)
def test_allotments_are_those_of_the_pure_rule(
    scratch: Scratch, recipe: Recipe, states: list[State], number: int
) -> None:
    with iteration_of(scratch, recipe, states, number) as (connection, run, iteration, by_id):
        keys = factory.keys_of(connection, [*by_id])
        # a problem that is left out leaves its share to the others
        shared = {keys[key]: None if state.left_out else state.level for key, state in by_id.items()}
        address = {"seed": recipe.seed, "iteration": number}
        expected = budget.allot(recipe.sampling.budget, shared, recipe.difficulty.resample, **address)
        for _ in range(2):  # the second time changes nothing
            method.allot_budget(connection, run, iteration)
            query = "SELECT problem_id, allotment FROM round_problems"
            assert {keys[key]: allotment for key, allotment in select(connection, query)} == expected


candidates = st.lists(
    st.builds(
        Drawn,
        st.one_of(st.just(Cause.CORRECT), st.just(Cause.INCORRECT), causes, st.none()),
        st.one_of(st.none(), st.integers(0, 4).map(lambda step: step / 4)),
        st.sampled_from(["one text", "another", "a third"]),
    ),
    max_size=12,
)


@CASES
@given(
    st.builds(
        make_recipe,
        seed=run_seeds,
        pairs=st.tuples(st.sampled_from(PairRule), st.one_of(st.none(), st.integers(1, 3))).map(
            lambda of: {"rule": of[0], "at_most_per_problem": of[1]}
        ),
        difficulty=st.fixed_dictionaries({"train": st.lists(levels, unique=True, min_size=1, max_size=3)}),
    ),
    st.lists(st.builds(State, st.booleans(), maybe_level, candidates), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_pairs_and_examples_are_those_of_the_pure_rules(
    scratch: Scratch, recipe: Recipe, states: list[State], number: int
) -> None:
    rule, at_most = recipe.pairs.rule, recipe.pairs.at_most_per_problem
    common: dict[str, Any] = {"seed": recipe.seed, "iteration": number, "at_most": at_most}
    with iteration_of(scratch, recipe, states, number) as (connection, run, iteration, by_id):
        keys = factory.keys_of(connection, [*by_id])
        pairs, examples = [], []
        for problem, (left_out, level, drawn) in reversed(by_id.items()):
            if level not in recipe.difficulty.train or left_out:
                continue
            pool = [
                (Candidate(slot, VERDICT_OF_CAUSE[of.cause] if of.cause else None, of.reward), of.response)
                for slot, of in enumerate(drawn)
            ]
            how = common | {"problem_key": keys[problem]}
            chosen = preference.select_pairs([candidate for candidate, _ in pool], rule, **how)
            pairs += [(problem, *pair) for pair in chosen]
            for slot in preference.select_examples(pool, rule, **how):
                examples.append((problem, slot, drawn[slot].response))
        assert method.build_pairs(connection, run, iteration) == len(pairs)
        assert select(connection, PAIRS, id=iteration.id) == sorted(pairs, key=lambda pair: pair[0])
        assert method.build_pairs(connection, run, iteration) == 0
        query = "SELECT id, problem_id, slot FROM samples"
        addresses = {sample: address for sample, *address in select(connection, query)}
        loaded = training.load_examples(connection, run, iteration)
        assert [(*addresses[sample], response) for sample, _, response in loaded] == examples


PAIRS = """
    SELECT pairs.problem_id, chosen.slot, rejected.slot
    FROM preference_pairs AS pairs
    JOIN samples AS chosen ON chosen.id = chosen_sample_id
    JOIN samples AS rejected ON rejected.id = rejected_sample_id
    WHERE pairs.round_id = :id
    ORDER BY pairs.problem_id, pairs.id
"""


class ProblemState(NamedTuple):
    readable: bool
    overlaps: bool
    used_by: Literal["this run", "another run", "an evaluation", "nobody"]


problem_states = st.builds(
    ProblemState,
    st.sampled_from([True, True, False]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["this run", "another run", "an evaluation", "nobody", "nobody"]),
)


@CASES
@given(
    st.lists(problem_states, min_size=1, max_size=12),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
    run_seeds,
)
def test_a_slice_is_the_first_unused_problems_in_the_seeded_order(
    scratch: Scratch, states: list[ProblemState], limit: int | None, without_overlaps: bool, seed: int
) -> None:
    with scratch() as connection:
        ids = add_problems(connection, len(states))
        (elsewhere,) = add_problems(connection, 1, HELDOUT)  # another dataset
        by_id = dict(zip(ids, states, strict=True))
        unreadable = [key for key, state in by_id.items() if not state.readable]
        change = "UPDATE problems SET reference_readable = id <> ALL (:ids)"
        factory.execute(connection, change, ids=unreadable)
        overlapping = [key for key, state in by_id.items() if state.overlaps]
        insert = """
            INSERT INTO problem_overlaps (problem_id, dataset_id, other_id, kind)
            SELECT id, (SELECT dataset_id FROM problems WHERE id = :other), :other, 'exact'
            FROM problems WHERE id = ANY (:ids)
        """
        factory.execute(connection, insert, ids=overlapping, other=elsewhere)
        run, another = add_run(connection), add_run(connection)
        dataset_id = datasets.find_dataset(connection, TRAIN).id
        users = {
            "this run": add_iteration(connection, run, []).id,
            "another run": add_iteration(connection, another, []).id,
            "an evaluation": factory.add_evaluation(connection, run),
        }
        for user, round_id in users.items():
            of_user = [key for key, state in by_id.items() if state.used_by == user]
            rounds.assign_problems(connection, round_id, of_user, 2)
        keys = factory.keys_of(connection, ids)

        def usable(used_by: Collection[str], *, overlapping: bool) -> list[int]:
            found = [
                key
                for key, state in by_id.items()
                if state.readable and (overlapping or not state.overlaps) and state.used_by not in used_by
            ]
            return sorted(found, key=lambda key: seeds.shuffle_key(seed, "slice", keys[key]))

        overlapping_too = not without_overlaps
        for run_id, used_by in ((run.id, ["this run"]), (another.id, ["another run"]), (None, [])):
            count = rounds.count_unused_problems(
                connection, run_id, dataset_id, without_overlaps=without_overlaps
            )
            assert count == len(usable(used_by, overlapping=overlapping_too))
        added = add_iteration(connection, run, [], number=1)
        count = rounds.assign_slice(
            connection, added.id, dataset_id, seed, limit, 3, without_overlaps=without_overlaps
        )
        unused = usable(["this run"], overlapping=overlapping_too)[:limit]
        assert _slice(connection, added.id) == [(place, key, 3) for place, key in enumerate(unused)]
        assert count == len(unused)
        # an evaluation takes every readable problem, whatever the run has used
        evaluation = factory.add_evaluation(connection, run, number=1)
        rounds.assign_slice(connection, evaluation, dataset_id, seed, limit, 2)
        readable = usable([], overlapping=True)[:limit]
        assert _slice(connection, evaluation) == [(place, key, 2) for place, key in enumerate(readable)]


def _slice(connection: Connection, round_id: int) -> list[tuple[int, ...]]:
    query = "SELECT position, problem_id, allotment FROM round_problems WHERE round_id = :id ORDER BY 1"
    return select(connection, query, id=round_id)
