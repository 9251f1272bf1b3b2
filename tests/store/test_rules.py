"""What SQL does is what the pure rules and plain loops say, on generated cases in real rows."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from hypothesis import example, given
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.domain import preference, seeds
from hsstar.domain.allocation import budget
from hsstar.domain.difficulty import Difficulty, Signal, classify, estimate_difficulty
from hsstar.domain.lifecycle import IterationState, JobKind, JobState
from hsstar.domain.preference import LEARNT_FROM, Candidate, PairCut, PairLength, PairRule, SourceUse
from hsstar.domain.problems import Repeat
from hsstar.domain.verdict import VERDICT_OF_CAUSE, Cause, Verdict
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.source import SourceSection
from hsstar.store import datasets, evaluations, method, rounds, runs, sources, training
from hsstar.store.database import Database
from tests.generated import examples
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import HELDOUT, TRAIN, Drawn, add_iteration, add_job, add_problems, add_run, select

CASES = examples(60)

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
) -> Iterator[tuple[Connection, runs.Run, rounds.Round, dict[int, State]]]:
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
    return factory.make_recipe(
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
        factory.make_recipe,
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
        factory.allot_budget(connection, run, iteration)
        query = "SELECT problem_id, allotment FROM round_problems"
        assert {keys[key]: allotment for key, allotment in select(connection, query)} == expected


candidates = st.lists(
    st.builds(
        Drawn,
        st.one_of(st.just(Cause.CORRECT), st.just(Cause.INCORRECT), causes, st.none()),
        st.one_of(st.none(), st.integers(0, 4).map(lambda step: step / 4)),
        st.sampled_from(["one text", "another", "a third"]),
        st.none() | st.integers(0, 9),
        st.sampled_from([None, "stop", "length"]),
    ),
    max_size=12,
)


@CASES
@given(
    st.builds(
        factory.make_recipe,
        seed=run_seeds,
        pairs=st.fixed_dictionaries(
            {
                "rule": st.sampled_from(PairRule),
                "at_most_per_problem": st.one_of(st.none(), st.integers(1, 3)),
                "distinct": st.booleans(),
                "length": st.sampled_from(PairLength),
                "cut": st.sampled_from(PairCut),
            }
        ),
        difficulty=st.fixed_dictionaries({"train": st.lists(levels, unique=True, min_size=1, max_size=3)}),
    ),
    st.lists(st.builds(State, st.booleans(), maybe_level, candidates), min_size=1, max_size=5),
    st.integers(0, 3),
    st.none() | st.tuples(st.sampled_from(SourceUse), candidates),
)
def test_pairs_and_examples_are_those_of_the_pure_rules(
    scratch: Scratch,
    recipe: Recipe,
    states: list[State],
    number: int,
    taught: tuple[SourceUse, list[Drawn]] | None,
) -> None:
    """`taught` is what a source has drawn for every problem, and its use."""
    if taught is not None:
        teacher = SourceSection(name="teacher", model="T", samples=12, use=taught[0])
        recipe = recipe.model_copy(update={"sources": (teacher,)})
    rule, at_most = recipe.pairs.rule, recipe.pairs.at_most_per_problem
    common: dict[str, Any] = {"seed": recipe.seed, "iteration": number, "at_most": at_most}
    common |= {"cut": recipe.pairs.cut}
    with iteration_of(scratch, recipe, states, number) as (connection, run, iteration, by_id):
        keys = factory.keys_of(connection, [*by_id])
        beside: list[Candidate] = []
        if taught is not None:
            sources.begin(connection, run, iteration, labelled=False)
            (added,) = sources.list_unfinished(connection, run.id)
            factory.add_samples(connection, added.id, {key: dict(enumerate(taught[1])) for key in by_id})
            if taught[0] is not SourceUse.RECORD:
                whose: dict[str, Any] = {"source": "teacher", "rejects": taught[0] is SourceUse.BOTH}
                beside = [candidate(slot, of, **whose) for slot, of in enumerate(taught[1])]
        pairs: list[tuple[int, str, str]] = []
        examples: dict[Verdict, list[Any]] = {verdict: [] for verdict in LEARNT_FROM["kto"]}
        for problem, (left_out, level, drawn) in reversed(by_id.items()):
            if level not in recipe.difficulty.train or left_out:
                continue
            pool = [*(candidate(slot, of) for slot, of in enumerate(drawn)), *beside]
            texts = {of.place: of.response for of in pool}
            how = common | {"problem_key": keys[problem]}
            chosen = preference.select_pairs(
                pool, rule, distinct=recipe.pairs.distinct, length=recipe.pairs.length, **how
            )
            pairs += [(problem, str(good), str(bad)) for good, bad in chosen]
            for verdict, found in examples.items():
                for place in preference.select_examples(pool, rule, verdict=verdict, **how):
                    found.append((problem, str(place), texts[place], verdict is Verdict.CORRECT))
        assert method.build_pairs(connection, run, iteration) == len(pairs)
        assert select(connection, PAIRS, id=iteration.id) == sorted(pairs, key=lambda pair: pair[0])
        assert method.build_pairs(connection, run, iteration) == 0
        assert select(connection, OF_TWO_PROBLEMS) == []
        query = f"SELECT samples.id, problem_id, {PLACE} FROM samples JOIN rounds ON rounds.id = round_id"
        addresses = {sample: address for sample, *address in select(connection, query)}
        places = {problem: place for place, problem in enumerate(reversed(by_id))}
        for objective, verdicts in LEARNT_FROM.items():
            loaded = training.load_examples(connection, run, iteration, verdicts)
            expected = [row for verdict in verdicts for row in examples[verdict]]
            assert [(*addresses[row.sample_id], row.response, row.correct) for row in loaded] == sorted(
                expected, key=lambda row: places[row[0]]
            ), objective
        for verdict, found in examples.items():
            assert method.has_examples(connection, run, iteration, verdict) == bool(found)


def candidate(slot: int, of: Drawn, **whose: Any) -> Candidate:
    verdict = VERDICT_OF_CAUSE[of.cause] if of.cause else None
    return Candidate(slot, verdict, of.reward, of.response, of.tokens, of.finish_reason == "length", **whose)


OF_TWO_PROBLEMS = """
    SELECT pairs.id
    FROM preference_pairs AS pairs
    JOIN samples AS chosen ON chosen.id = chosen_sample_id
    JOIN samples AS rejected ON rejected.id = rejected_sample_id
    WHERE chosen.problem_id <> rejected.problem_id
"""
PLACE = "concat_ws(':', nullif(rounds.evaluation_key, ''), samples.slot)"
PAIRS = f"""
    WITH placed AS (SELECT samples.id, {PLACE} AS place FROM samples JOIN rounds ON rounds.id = round_id)
    SELECT pairs.problem_id, chosen.place, rejected.place
    FROM preference_pairs AS pairs
    JOIN placed AS chosen ON chosen.id = chosen_sample_id
    JOIN placed AS rejected ON rejected.id = rejected_sample_id
    WHERE pairs.round_id = :id
    ORDER BY pairs.problem_id, pairs.id
"""


class ProblemState(NamedTuple):
    readable: bool
    overlaps: bool
    used_by: Literal["this run", "another run", "an evaluation", "nobody"]
    again: bool  # by two iterations of this run
    solved: bool  # by one of them


problem_states = st.builds(
    ProblemState,
    st.sampled_from([True, True, False]),
    st.sampled_from([False, False, True]),
    st.sampled_from(["this run", "this run", "another run", "an evaluation", "nobody", "nobody"]),
    st.booleans(),
    st.booleans(),
)


def may_come_again(state: ProblemState, repeat: Repeat) -> bool:
    return repeat == "all" or (repeat == "unsolved" and not state.solved)


@CASES
@given(
    st.lists(problem_states, min_size=1, max_size=12),
    st.one_of(st.none(), st.integers(0, 12)),
    st.booleans(),
    st.sampled_from(get_args(Repeat)),
    run_seeds,
)
def test_a_slice_is_the_least_used_problems_in_the_seeded_order(
    scratch: Scratch,
    states: list[ProblemState],
    limit: int | None,
    without_overlaps: bool,
    repeat: Repeat,
    seed: int,
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
        used = {key: state.used_by == "this run" for key, state in by_id.items()}
        again = [key for key, state in by_id.items() if used[key] and state.again]
        second = add_iteration(connection, run, again, number=1).id
        for key, state in by_id.items():
            drawn = {0: Drawn(Cause.CORRECT if state.solved else Cause.INCORRECT, 0.5)}
            if used[key]:
                factory.add_samples(connection, second if state.again else users["this run"], {key: drawn})
        keys = factory.keys_of(connection, ids)

        def usable(used_by: str, repeat: Repeat = "all", *, overlapping: bool = True) -> list[int]:
            found = [
                key
                for key, state in by_id.items()
                if state.readable
                and (overlapping or not state.overlaps)
                and (
                    state.used_by != used_by or repeat == "all" or (repeat == "unsolved" and not state.solved)
                )
            ]
            return sorted(found, key=lambda key: seeds.shuffle_key(seed, "slice", keys[key]))

        how: dict[str, Any] = {"without_overlaps": without_overlaps, "repeat": repeat}
        mine = usable("this run", repeat, overlapping=not without_overlaps)
        assert rounds.count_available_problems(connection, run.id, dataset_id, **how) == len(mine)
        others = usable("nobody at all", overlapping=not without_overlaps)
        new = add_run(connection)
        assert rounds.count_available_problems(connection, new.id, dataset_id, **how) == len(others)
        added = add_iteration(connection, run, [], number=2)
        count = rounds.assign_slice(connection, added.id, dataset_id, seed, limit, 3, **how)
        expected = sorted(mine, key=lambda key: used[key] + (key in again))[:limit]
        assert select(connection, SLICE, id=added.id) == [(at, key, 3) for at, key in enumerate(expected)]
        assert count == len(expected)
        # an evaluation takes every readable problem, whatever the run has used
        evaluation = factory.add_evaluation(connection, run, number=1)
        rounds.assign_slice(connection, evaluation, dataset_id, seed, limit, 2)
        readable = usable("nobody at all")[:limit]
        assert select(connection, SLICE, id=evaluation) == [(at, key, 2) for at, key in enumerate(readable)]


SLICE = "SELECT position, problem_id, allotment FROM round_problems WHERE round_id = :id ORDER BY 1"


# --- allocation: exactly what is missing is enqueued ------------------------------------------------

SLOTS = 6
KINDS = (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
LARGE_ROUND = Path(__file__).with_name("large_round.sql").read_text()

Address = tuple[int, int]  # place of the problem in the round, slot


class Allotted(NamedTuple):
    allotment: int
    excluded: bool
    drawn: Mapping[int, Drawn]


class JobRow(NamedTuple):
    kind: JobKind
    state: JobState
    items: list[Address]


RoundState = tuple[list[Allotted], list[JobRow], int | None]

causes_or_none = st.sampled_from([None, Cause.CORRECT, Cause.TIMED_OUT])
slots_drawn = st.dictionaries(
    st.integers(0, SLOTS - 1), st.builds(Drawn, causes_or_none, st.sampled_from([None, 0.5]))
)
allotted_problems = st.builds(Allotted, st.integers(0, SLOTS), now_and_then, slots_drawn)


@st.composite
def round_states(draw: st.DrawFn) -> RoundState:
    problems = draw(st.lists(allotted_problems, min_size=1, max_size=5))
    address = st.tuples(st.integers(0, len(problems) - 1), st.integers(0, SLOTS - 1))
    items = st.lists(address, min_size=1, max_size=6, unique=True)
    job = st.builds(JobRow, st.sampled_from(KINDS), st.sampled_from(JobState), items)
    return problems, draw(st.lists(job, max_size=4)), draw(st.none() | st.integers(1, SLOTS))


@contextmanager
def made(scratch: Scratch, state: RoundState) -> Iterator[tuple[Connection, int, list[int]]]:
    """A round in this state, and the ids of its problems; another round has samples, jobs and lacks too."""
    problems, held_by, n_p = state
    with scratch() as connection:
        round_id, ids = factory.add_round(connection, len(problems))
        if n_p is None:
            factory.set_state(connection, round_id, IterationState.RE_SAMPLING)
        factory.execute(connection, "UPDATE iterations SET pre_samples = coalesce(:n_p, 1)", n_p=n_p)
        allotments = [problem.allotment for problem in problems]
        change = "UPDATE round_problems SET allotment = (CAST(:allotments AS int[]))[position + 1]"
        factory.execute(connection, change, allotments=allotments)
        excluded = [key for key, problem in zip(ids, problems, strict=True) if problem.excluded]
        rounds.exclude(connection, round_id, dict.fromkeys(excluded, "too long"))
        run = runs.get_run(connection, rounds.get_round(connection, round_id).run_id)
        other = add_iteration(connection, run, ids, 1).id
        factory.add_samples(connection, round_id, dict(zip(ids, (of.drawn for of in problems), strict=True)))
        factory.add_samples(connection, other, {ids[0]: {0: Drawn()}})
        add_job(connection, other, items={ids[-1]: [1]})
        for job in held_by:
            items = {ids[of]: [slot for place, slot in job.items if place == of] for of, _ in job.items}
            add_job(connection, round_id, job.kind, items, job.state)
        yield connection, round_id, ids


def missing(problems: list[Allotted], held_by: list[JobRow], n_p: int | None, kind: JobKind) -> list[Address]:
    """What a round lacks, the slow and obvious way; `n_p` if it is an iteration in pre-sampling."""
    holding = [job for job in held_by if job.kind is kind and job.state is not JobState.DONE]
    held = {address for job in holding for address in job.items}

    def lacks(problem: Allotted, slot: int) -> bool:
        sample = problem.drawn.get(slot)
        if kind is JobKind.SAMPLE:
            return sample is None and slot < min(problem.allotment, n_p or SLOTS)
        return sample is not None and (sample.cause if kind is JobKind.VERIFY else sample.reward) is None

    return [
        (place, slot)
        for place, problem in enumerate(problems)
        for slot in range(SLOTS)
        if not problem.excluded and lacks(problem, slot) and (place, slot) not in held
    ]


@CASES
@given(round_states(), st.sampled_from(KINDS), st.integers(1, 5), st.none() | st.sets(st.integers(0, 4)))
def test_exactly_the_missing_slots_are_enqueued(
    scratch: Scratch, state: RoundState, kind: JobKind, job_samples: int, only: set[int] | None
) -> None:
    wanted = [address for address in missing(*state, kind) if only is None or address[0] in only]
    chunks = [wanted[start : start + job_samples] for start in range(0, len(wanted), job_samples)]
    with made(scratch, state) as (connection, round_id, ids):
        chosen = None if only is None else [ids[place] for place in only if place < len(ids)]
        new = rounds.allocate(connection, round_id, kind, job_samples, chosen)
        held = [factory.items_of(connection, job) for job in new]
        enqueued = [[(ids.index(key), slot) for key, slot in items] for items in held]
        assert sorted(enqueued) == chunks
        assert rounds.allocate(connection, round_id, kind, job_samples, chosen) == []


@CASES
@given(round_states())
def test_what_a_round_lacks_is_counted(scratch: Scratch, state: RoundState) -> None:
    problems, held_by, n_p = state
    live = [job for job in held_by if job.state.live]
    with made(scratch, state) as (connection, round_id, ids):
        assert rounds.shortfall(connection, round_id, ids) == rounds.Shortfall(
            undrawn=len(missing(problems, [], n_p, JobKind.SAMPLE)),
            unverified=len(missing(problems, [], n_p, JobKind.VERIFY)),
            unscored=len(missing(problems, [], n_p, JobKind.SCORE)),
        )
        assert rounds.has_live_jobs(connection, round_id) == bool(live)
        columns = "problem_id, allotment, drawn, in_flight, remaining"
        query = f"SELECT {columns} FROM remaining_budget WHERE iteration = 0 ORDER BY problem_id"
        assert select(connection, query) == [
            (ids[place], *remaining_of(place, problem, live)) for place, problem in enumerate(problems)
        ]


def remaining_of(place: int, problem: Allotted, live: list[JobRow]) -> tuple[int, int, int, int]:
    """Of a problem: allotment, samples drawn, in flight and remaining."""
    slots = [slot for job in live if job.kind is JobKind.SAMPLE for at, slot in job.items if at == place]
    in_flight, drawn = sum(slot not in problem.drawn for slot in slots), len(problem.drawn)
    remaining = 0 if problem.excluded else max(problem.allotment - drawn - in_flight, 0)
    return problem.allotment, drawn, in_flight, remaining


def test_a_batch_costs_what_the_batch_is_not_what_the_round_is(database: Database) -> None:
    """64 changed problems of a round of 60,000 samples are found by the key of samples."""
    query = resources.files("hsstar.store").joinpath("sql", "allocate.sql").read_text(encoding="utf-8")
    with database.begin() as connection:
        round_id, _ = factory.add_round(connection, 1)
        factory.execute(connection, LARGE_ROUND)
        changed = [key for (key,) in select(connection, "SELECT id FROM problems ORDER BY key LIMIT 64")]
        for kind in KINDS:
            values = {
                "round_id": round_id,
                "kind": kind,
                "problem_ids": changed,
                "job_id": None,
                "job_samples": 64,
            }
            plan = connection.execute(text(f"EXPLAIN {query}"), values)
            lines = "\n".join(plan.scalars())
            assert "using uq_samples_round_id_problem_id_slot on samples" in lines
            assert "Seq Scan on samples" not in lines


def test_the_planner_knows_the_rows_of_a_round_as_soon_as_they_are_there(connection: Connection) -> None:
    query = "SELECT reltuples FROM pg_class WHERE relname = :table"
    run = add_run(connection)
    ids = add_problems(connection, 7)
    dataset_id = datasets.find_dataset(connection, TRAIN).id
    add_iteration(connection, run, ids[:3])
    assert select(connection, query, table="round_problems") == [(3,)]
    counts = {"runs": 1, "rounds": 1, "iterations": 1, "evaluations": 0, "step_rounds": 0}
    for table, rows in counts.items():  # without statistics they would count for hundreds
        assert select(connection, query, table=table) == [(rows,)]
    second = add_iteration(connection, run, [], 1)
    rounds.assign_slice(connection, second.id, dataset_id, seed=0, limit=2, allotment=1)
    assert select(connection, query, table="round_problems") == [(5,)]
    evaluation = factory.add_evaluation(connection, run)
    evaluations.assign_all_problems(connection, evaluation, dataset_id, None, 1)
    assert select(connection, query, table="round_problems") == [(12,)]
