"""The rules of the method as SQL say what the pure ones say, on generated cases in real rows."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.domain import preference, seeds
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds, classify, estimate_difficulty
from hsstar.domain.preference import Candidate, PairRule
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.store import datasets, evaluations, method, rounds, training
from hsstar.store.evaluations import EvaluationSpec
from tests.store.conftest import Scratch
from tests.store.factory import (
    HELDOUT,
    TRAIN,
    Drawn,
    add_iteration,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    keys_of,
    make_recipe,
    select,
)

CASES = settings(max_examples=60, deadline=None)

GRID = 8
"""Minimum rewards and thresholds are multiples of 1/8: sums are exact, and means often lie at a threshold."""

rewards = st.integers(0, GRID).map(lambda step: step / GRID)
causes = st.sampled_from(Cause)
levels = st.sampled_from(Difficulty)
some_levels = st.lists(levels, unique=True, max_size=3)
run_seeds = st.integers(0, 2**31 - 1)


@st.composite
def estimated_problems(draw: st.DrawFn) -> tuple[int, list[tuple[list[Drawn], bool]]]:
    """`n_p` and some problems: their pre-samples, extremes often, and whether they are left out."""
    n_p = draw(st.integers(1, 4))
    likely = st.one_of(st.just(Cause.CORRECT), st.just(Cause.INCORRECT), st.none(), causes)
    problems = []
    for _ in range(draw(st.integers(1, 6))):
        usual, reward = draw(likely), draw(rewards)
        sample = st.builds(
            Drawn, st.one_of(st.just(usual), likely), st.one_of(st.just(reward), rewards, st.none())
        )
        pre_samples = draw(st.lists(sample, min_size=n_p, max_size=n_p))
        problems.append((pre_samples, draw(st.sampled_from([False, False, False, True]))))
    return n_p, problems


AT_THE_THRESHOLDS = [
    ([Drawn(Cause.INCORRECT, 2 / GRID)], False),
    ([Drawn(Cause.CORRECT, 6 / GRID)], False),
]


@CASES
@given(
    estimated_problems(),
    st.sampled_from(Signal),
    st.booleans(),
    st.lists(st.integers(0, GRID), min_size=2, max_size=2, unique=True).map(sorted),
    st.integers(0, 6),
)
@example((1, AT_THE_THRESHOLDS), Signal.ACCURACY_AND_REWARD, True, [2, 6], 0)
@example((1, AT_THE_THRESHOLDS), Signal.REWARD, True, [2, 6], 0)
def test_labels_are_those_of_the_pure_rule(
    scratch: Scratch,
    generated: tuple[int, list[tuple[list[Drawn], bool]]],
    signal: Signal,
    scored: bool,
    thresholds: list[int],
    first: int,
) -> None:
    """First those of the `first` problems, then all."""
    n_p, problems = generated
    low, high = (step / GRID for step in thresholds)
    scored = scored or signal.needs_reward
    with scratch() as connection:
        recipe = make_recipe(
            sampling={"n": 8, "n_p": n_p},
            reward={"model": "prm" if scored else "none"},
            pairs={"rule": "random"},
            difficulty={"signal": signal, "tau_low": low, "tau_high": high},
        )
        run = add_run(connection, recipe)
        ids = add_problems(connection, len(problems))
        iteration = add_iteration(connection, run, ids)
        by_id = dict(zip(ids, problems, strict=True))
        # one sample more than the pre-samples: a re-sample never moves a label
        late = Drawn(Cause.INCORRECT, 0.0)
        drawn_of = {key: dict(enumerate([*drawn, late])) for key, (drawn, _) in by_id.items()}
        add_samples(connection, iteration.id, drawn_of)
        rounds.exclude(connection, iteration.id, {key: "no" for key, (_, out) in by_id.items() if out})
        expected = {}
        for problem_id, (drawn, left_out) in by_id.items():
            complete = all(
                sample.cause is not None and (sample.reward is not None or not scored) for sample in drawn
            )
            if left_out or not complete or any(sample.cause is Cause.BAD_REFERENCE for sample in drawn):
                continue
            found = estimate_difficulty(
                [sample.cause is Cause.CORRECT for sample in drawn],
                [sample.reward or 0.0 for sample in drawn] if scored else None,
            )
            level = classify(found, signal, Thresholds(low, high))
            expected[problem_id] = (level, found.accuracy, found.process_quality)

        for only, new in (
            (ids[:first], expected.keys() & ids[:first]),
            (None, expected.keys() - ids[:first]),
        ):
            assert method.label_problems(connection, run, iteration, only) == len(new)
        query = "SELECT problem_id, level, accuracy, process_quality FROM difficulty_labels"
        assert {row[0]: row[1:] for row in select(connection, query)} == expected
        assert method.label_problems(connection, run, iteration) == 0


@CASES
@given(
    st.lists(
        st.tuples(st.one_of(levels, st.none()), st.sampled_from([False, False, False, True])),
        min_size=1,
        max_size=25,
    ),
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    some_levels,
    run_seeds,
    st.integers(0, 3),
)
def test_allotments_are_those_of_the_pure_rule(
    scratch: Scratch,
    found: list[tuple[Difficulty | None, bool]],
    per_problem: tuple[int, int],
    resampled: list[Difficulty],
    seed: int,
    number: int,
) -> None:
    n, n_p = per_problem
    with scratch() as connection:
        recipe = make_recipe(
            seed=seed,
            sampling={"n": n, "n_p": n_p},
            difficulty={"resample": resampled, "train": [*Difficulty]},
        )
        run = add_run(connection, recipe)
        ids = add_problems(connection, len(found))
        iteration = add_iteration(connection, run, ids, number)
        by_id = dict(zip(ids, found, strict=True))
        add_labels(connection, iteration.id, {key: level for key, (level, _) in by_id.items()})
        rounds.exclude(connection, iteration.id, {key: "no" for key, (_, out) in by_id.items() if out})
        keys = keys_of(connection, ids)
        # a problem that is left out leaves its share to the others
        shared = {keys[key]: None if out else level for key, (level, out) in by_id.items()}
        expected = budget.allot(budget.Budget(n, n_p), shared, resampled, seed=seed, iteration=number)

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
    st.lists(st.tuples(st.one_of(levels, st.none()), candidates, st.booleans()), min_size=1, max_size=5),
    st.sampled_from(PairRule),
    st.one_of(st.none(), st.integers(1, 3)),
    st.lists(levels, unique=True, min_size=1, max_size=3),
    run_seeds,
    st.integers(0, 3),
)
def test_pairs_and_examples_are_those_of_the_pure_rules(
    scratch: Scratch,
    found: list[tuple[Difficulty | None, list[Drawn], bool]],
    rule: PairRule,
    at_most: int | None,
    trained: list[Difficulty],
    seed: int,
    number: int,
) -> None:
    """Of each problem: its level, its samples, and whether it is left out."""
    with scratch() as connection:
        recipe = make_recipe(
            seed=seed,
            pairs={"rule": rule, "at_most_per_problem": at_most},
            difficulty={"train": trained},
        )
        run = add_run(connection, recipe)
        ids = add_problems(connection, len(found))
        order = ids[::-1]
        iteration = add_iteration(connection, run, order, number)
        by_id = dict(zip(ids, found, strict=True))
        add_labels(connection, iteration.id, {key: level for key, (level, _, _) in by_id.items()})
        add_samples(
            connection, iteration.id, {key: dict(enumerate(drawn)) for key, (_, drawn, _) in by_id.items()}
        )
        left_out = {key: "too long" for key, (_, _, excluded) in by_id.items() if excluded}
        rounds.exclude(connection, iteration.id, left_out)
        keys = keys_of(connection, ids)
        common = {"seed": seed, "iteration": number, "at_most": at_most}
        pairs, examples = {}, []
        for problem in order:
            level, drawn, excluded = by_id[problem]
            if level not in trained or excluded:
                continue
            pool = [
                (Candidate(slot, VERDICT_OF_CAUSE[s.cause] if s.cause else None, s.reward), s.response)
                for slot, s in enumerate(drawn)
            ]
            how: Any = common | {"problem_key": keys[problem]}
            if chosen := preference.select_pairs([candidate for candidate, _ in pool], rule, **how):
                pairs[problem] = chosen
            examples += [(problem, slot) for slot in preference.select_examples(pool, rule, **how)]

        assert method.build_pairs(connection, run, iteration) == sum(map(len, pairs.values()))
        assert _pairs(connection, iteration.id) == pairs
        assert method.build_pairs(connection, run, iteration) == 0
        addresses = {
            row[0]: row[1:] for row in select(connection, "SELECT id, problem_id, slot FROM samples")
        }
        loaded = training.load_examples(connection, run, iteration)
        assert [(addresses[sample], response) for sample, _, response in loaded] == [
            ((problem, slot), by_id[problem][1][slot].response) for problem, slot in examples
        ]


def _pairs(connection: Connection, round_id: int) -> dict[int, list[tuple[int, int]]]:
    query = """
        SELECT pairs.problem_id, chosen.slot, rejected.slot
        FROM preference_pairs AS pairs
        JOIN samples AS chosen ON chosen.id = chosen_sample_id
        JOIN samples AS rejected ON rejected.id = rejected_sample_id
        WHERE pairs.round_id = :id
        ORDER BY pairs.id
    """
    found = defaultdict(list)
    for problem_id, chosen, rejected in select(connection, query, id=round_id):
        found[problem_id].append((chosen, rejected))
    return dict(found)


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
        connection.execute(
            text("UPDATE problems SET reference_readable = id <> ALL (:ids)"),
            {"ids": [key for key, state in by_id.items() if not state.readable]},
        )
        connection.execute(
            text("""
                INSERT INTO problem_overlaps (problem_id, dataset_id, other_id, kind)
                SELECT id, (SELECT dataset_id FROM problems WHERE id = :other), :other, 'exact'
                FROM problems WHERE id = ANY (:ids)
            """),
            {"ids": [key for key, state in by_id.items() if state.overlaps], "other": elsewhere},
        )
        run, another = add_run(connection), add_run(connection)
        dataset_id = datasets.find_dataset(connection, TRAIN).id
        evaluation = evaluations.add_evaluation(
            connection, run.id, 0, run.model_id, EvaluationSpec("key", dataset_id, 1, None)
        )
        users = {
            "this run": add_iteration(connection, run, []).id,
            "another run": add_iteration(connection, another, []).id,
            "an evaluation": evaluation.id,
        }
        for user, round_id in users.items():
            of_user = [key for key, state in by_id.items() if state.used_by == user]
            rounds.assign_problems(connection, round_id, of_user, 2)
        keys = keys_of(connection, ids)

        def usable(used_by: Collection[str], *, overlapping: bool) -> list[int]:
            return sorted(
                (
                    key
                    for key, state in by_id.items()
                    if state.readable and (overlapping or not state.overlaps) and state.used_by not in used_by
                ),
                key=lambda key: seeds.shuffle_key(seed, "slice", keys[key]),
            )

        unused = usable(["this run"], overlapping=not without_overlaps)
        for run_id, used_by in ((run.id, ["this run"]), (another.id, ["another run"]), (None, [])):
            assert rounds.count_unused_problems(
                connection, run_id, dataset_id, without_overlaps=without_overlaps
            ) == len(usable(used_by, overlapping=not without_overlaps))

        added = add_iteration(connection, run, [], number=1)
        count = rounds.assign_slice(
            connection, added.id, dataset_id, seed, limit, 3, without_overlaps=without_overlaps
        )
        assert _slice(connection, added.id) == [(key, 3) for key in unused[:limit]]
        assert count == len(unused[:limit])

        # an evaluation takes every readable problem, whatever the run has used
        evaluation = evaluations.add_evaluation(
            connection, run.id, 1, run.model_id, EvaluationSpec("key", dataset_id, 1, None)
        )
        rounds.assign_slice(connection, evaluation.id, dataset_id, seed, limit, 2)
        assert _slice(connection, evaluation.id) == [(key, 2) for key in usable([], overlapping=True)[:limit]]


def _slice(connection: Connection, round_id: int) -> list[tuple[int, int]]:
    query = (
        "SELECT problem_id, allotment, position FROM round_problems WHERE round_id = :id ORDER BY position"
    )
    rows = select(connection, query, id=round_id)
    assert [position for _, _, position in rows] == list(range(len(rows)))
    return [row[:2] for row in rows]
