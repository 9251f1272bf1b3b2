"""The rules of the method as SQL say what the pure ones say, on generated cases in real rows."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any, Literal, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.domain import preference, seeds
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty, Signal, Thresholds, classify, estimate_difficulty
from hsstar.domain.preference import Candidate, PairRule
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause
from hsstar.store import evaluations, method, rounds, training
from hsstar.store.evaluations import EvaluationSpec
from tests.store.conftest import Scratch
from tests.store.factory import (
    HELDOUT,
    Drawn,
    add_iteration,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    keys_of,
    make_recipe,
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
def estimated_problems(draw: st.DrawFn) -> tuple[int, list[list[Drawn]]]:
    """`n_p` and the pre-samples of some problems, a few without verdict or reward, extremes often."""
    n_p = draw(st.integers(1, 4))
    likely = st.one_of(st.just(Cause.CORRECT), st.just(Cause.INCORRECT), st.none(), causes)
    problems = []
    for _ in range(draw(st.integers(1, 6))):
        usual, reward = draw(likely), draw(rewards)
        sample = st.builds(
            Drawn, st.one_of(st.just(usual), likely), st.one_of(st.just(reward), rewards, st.none())
        )
        problems.append(draw(st.lists(sample, min_size=n_p, max_size=n_p)))
    return n_p, problems


@CASES
@given(
    estimated_problems(),
    st.sampled_from(Signal),
    st.booleans(),
    st.lists(st.integers(0, GRID), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_labels_are_those_of_the_pure_rule(
    scratch: Scratch,
    generated: tuple[int, list[list[Drawn]]],
    signal: Signal,
    scored: bool,
    thresholds: list[int],
) -> None:
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
        add_samples(
            connection, iteration.id, {key: dict(enumerate([*drawn, late])) for key, drawn in by_id.items()}
        )
        expected = {}
        for problem_id, drawn in by_id.items():
            complete = all(
                sample.cause is not None and (sample.reward is not None or not scored) for sample in drawn
            )
            if not complete or any(sample.cause is Cause.BAD_REFERENCE for sample in drawn):
                continue
            found = estimate_difficulty(
                [sample.cause is Cause.CORRECT for sample in drawn],
                [sample.reward or 0.0 for sample in drawn] if scored else None,
            )
            level = classify(found, signal, Thresholds(low, high))
            expected[problem_id] = (level, found.accuracy, found.process_quality)

        assert method.label_problems(connection, run, iteration) == len(expected)
        assert _labels(connection, iteration.id) == expected
        assert method.label_problems(connection, run, iteration) == 0


def test_equal_responses_count_each(connection: Connection) -> None:
    run = add_run(connection, make_recipe(sampling={"n": 8, "n_p": 3}))
    (problem,) = add_problems(connection, 1)
    iteration = add_iteration(connection, run, [problem])
    same = Drawn(Cause.CORRECT, 0.25, "the same words")
    add_samples(
        connection, iteration.id, {problem: {0: same, 1: same, 2: Drawn(Cause.INCORRECT, 1.0, "others")}}
    )
    method.label_problems(connection, run, iteration)
    assert _labels(connection, iteration.id) == {problem: ("boundary", 2 / 3, 0.5)}


def test_a_problem_with_an_unreadable_reference_has_no_level(connection: Connection) -> None:
    run = add_run(connection, make_recipe(sampling={"n": 2, "n_p": 2}))
    (problem,) = add_problems(connection, 1)
    iteration = add_iteration(connection, run, [problem])
    add_samples(connection, iteration.id, {problem: dict.fromkeys(range(2), Drawn(Cause.BAD_REFERENCE, 0.0))})
    assert method.label_problems(connection, run, iteration) == 0


def test_labelling_can_be_kept_to_some_problems(connection: Connection) -> None:
    run = add_run(connection, make_recipe(sampling={"n": 2, "n_p": 1}))
    first, second, third = add_problems(connection, 3)
    iteration = add_iteration(connection, run, [first, second, third])
    add_samples(
        connection, iteration.id, {key: {0: Drawn(Cause.CORRECT, 1.0)} for key in (first, second, third)}
    )
    rounds.exclude(connection, iteration.id, {second: "too long"})
    assert method.label_problems(connection, run, iteration, [first, second]) == 1
    assert set(_labels(connection, iteration.id)) == {first}
    assert method.label_problems(connection, run, iteration) == 1
    assert set(_labels(connection, iteration.id)) == {first, third}


def _labels(connection: Connection, round_id: int) -> dict[int, tuple[str, float, float | None]]:
    rows = connection.execute(
        text(
            "SELECT problem_id, level, accuracy, process_quality FROM difficulty_labels WHERE round_id = :id"
        ),
        {"id": round_id},
    )
    return {row.problem_id: (row.level, row.accuracy, row.process_quality) for row in rows}


@CASES
@given(
    st.lists(st.one_of(levels, st.none()), min_size=1, max_size=25),
    st.integers(1, 8).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    some_levels,
    run_seeds,
    st.integers(0, 3),
)
def test_allotments_are_those_of_the_pure_rule(
    scratch: Scratch,
    found: list[Difficulty | None],
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
        levels_by_id = dict(zip(ids, found, strict=True))
        add_labels(connection, iteration.id, levels_by_id)
        keys = keys_of(connection, ids)

        for _ in range(2):  # the second time changes nothing
            method.allot_budget(connection, run, iteration)
            assert {keys[key]: drawn for key, drawn in _allotments(connection, iteration.id).items()} == (
                budget.allot(
                    budget.Budget(n, n_p),
                    {keys[key]: level for key, level in levels_by_id.items()},
                    resampled,
                    seed=seed,
                    iteration=number,
                )
            )


def test_an_excluded_problem_takes_nothing_from_the_boundary(connection: Connection) -> None:
    run = add_run(connection, make_recipe(sampling={"n": 4, "n_p": 1}))
    ids = add_problems(connection, 3)
    iteration = add_iteration(connection, run, ids)
    add_labels(connection, iteration.id, dict.fromkeys(ids, "boundary"))
    rounds.exclude(connection, iteration.id, {ids[0]: "too long"})
    method.allot_budget(connection, run, iteration)
    allotments = _allotments(connection, iteration.id)
    assert allotments.pop(ids[0]) == 1
    assert sorted(allotments.values()) == [5, 6]  # 1 + 9 / 2, one of them with the remainder


def _allotments(connection: Connection, round_id: int) -> dict[int, int]:
    rows = connection.execute(
        text("SELECT problem_id, allotment FROM round_problems WHERE round_id = :id"), {"id": round_id}
    )
    return {row.problem_id: row.allotment for row in rows}


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
        loaded = training.load_examples(connection, run, iteration)
        assert [(_address(connection, entry[0]), entry[2]) for entry in loaded] == [
            ((problem, slot), by_id[problem][1][slot].response) for problem, slot in examples
        ]


def _address(connection: Connection, sample_id: int) -> tuple[int, int]:
    query = text("SELECT problem_id, slot FROM samples WHERE id = :id")
    problem, slot = connection.execute(query, {"id": sample_id}).one()
    return problem, slot


def _pairs(connection: Connection, round_id: int) -> dict[int, list[tuple[int, int]]]:
    rows = connection.execute(
        text("""
            SELECT pairs.problem_id, chosen.slot, rejected.slot
            FROM preference_pairs AS pairs
            JOIN samples AS chosen ON chosen.id = chosen_sample_id
            JOIN samples AS rejected ON rejected.id = rejected_sample_id
            WHERE pairs.round_id = :id
            ORDER BY pairs.id
        """),
        {"id": round_id},
    )
    found = defaultdict(list)
    for problem_id, chosen, rejected in rows:
        found[problem_id].append((chosen, rejected))
    return dict(found)


@CASES
@given(
    run_seeds,
    st.sampled_from(["slice", "remainder", "keep", "match"]),
    st.lists(st.one_of(st.integers(0, 9_999), st.text("0123456789abcdef", max_size=32)), max_size=3),
)
def test_sql_and_python_shuffle_alike(
    scratch: Scratch, seed: int, purpose: str, parts: list[str | int]
) -> None:
    with scratch() as connection:
        found = connection.scalar(
            text(
                "SELECT sha256(convert_to(concat_ws(':', CAST(:seed AS int8), CAST(:words AS text)), 'UTF8'))"
            ),
            {"seed": seed, "words": ":".join([purpose, *map(str, parts)])},
        )
    assert bytes(found) == seeds.shuffle_key(seed, purpose, *parts)


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
        dataset_id = connection.scalar(text("SELECT dataset_id FROM problems WHERE id = :id"), {"id": ids[0]})
        assert isinstance(dataset_id, int)
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
    rows = connection.execute(
        text("SELECT problem_id, position, allotment FROM round_problems WHERE round_id = :id ORDER BY 2"),
        {"id": round_id},
    ).all()
    assert [row.position for row in rows] == list(range(len(rows)))
    return [(row.problem_id, row.allotment) for row in rows]
