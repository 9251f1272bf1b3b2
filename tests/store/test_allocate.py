"""The allocator enqueues exactly what is missing: nothing twice, nothing that a job holds already."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import datasets, evaluations, method, rounds, runs
from hsstar.store.database import Database, lock_run
from hsstar.store.evaluations import EvaluationSpec
from hsstar.store.rounds import Shortfall
from tests.store.conftest import Scratch
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_labels,
    add_problems,
    add_run,
    add_samples,
    items_of,
    select,
)
from tests.store.threads import at_once

CASES = settings(max_examples=60, deadline=None)
SLOTS = 6

Address = tuple[int, int]
"""(place of the problem in the round, slot)."""


@dataclass(frozen=True)
class ProblemState:
    allotment: int
    excluded: bool
    drawn: Mapping[int, Drawn]


@dataclass(frozen=True)
class JobRow:
    kind: JobKind
    state: JobState
    items: tuple[Address, ...]


drawn_samples = st.builds(
    Drawn, st.sampled_from([None, Cause.CORRECT, Cause.TIMED_OUT]), st.sampled_from([None, 0.5])
)
problem_states = st.builds(
    ProblemState,
    st.integers(0, SLOTS),
    st.sampled_from([False, False, False, True]),
    st.dictionaries(st.integers(0, SLOTS - 1), drawn_samples),
)


@st.composite
def round_states(draw: st.DrawFn) -> tuple[list[ProblemState], list[JobRow]]:
    problems = draw(st.lists(problem_states, min_size=1, max_size=5))
    address = st.tuples(st.integers(0, len(problems) - 1), st.integers(0, SLOTS - 1))
    job = st.builds(
        JobRow,
        st.sampled_from([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE]),
        st.sampled_from(JobState),
        st.lists(address, min_size=1, max_size=6, unique=True).map(tuple),
    )
    return problems, draw(st.lists(job, max_size=4))


def missing(problems: list[ProblemState], held_by: list[JobRow], kind: JobKind) -> list[Address]:
    """What a round lacks, the slow and obvious way."""
    held = {
        address
        for job in held_by
        if job.kind is kind and job.state is not JobState.DONE
        for address in job.items
    }
    found = []
    for place, problem in enumerate(problems):
        for slot in range(SLOTS):
            sample = problem.drawn.get(slot)
            lacks = {
                JobKind.SAMPLE: sample is None and slot < problem.allotment,
                JobKind.VERIFY: sample is not None and sample.cause is None,
                JobKind.SCORE: sample is not None and sample.reward is None,
            }[kind]
            if lacks and not problem.excluded and (place, slot) not in held:
                found.append((place, slot))
    return found


@CASES
@given(
    round_states(),
    st.sampled_from([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE]),
    st.integers(1, 5),
    st.one_of(st.none(), st.sets(st.integers(0, 4))),
)
def test_exactly_the_missing_slots_are_enqueued(
    scratch: Scratch,
    state: tuple[list[ProblemState], list[JobRow]],
    kind: JobKind,
    job_samples: int,
    only: set[int] | None,
) -> None:
    problems, held_by = state
    with scratch() as connection:
        ids = add_problems(connection, len(problems))
        round_id = _make_round(connection, ids, problems, held_by)
        wanted = [
            address for address in missing(problems, held_by, kind) if only is None or address[0] in only
        ]
        chunks = [wanted[start : start + job_samples] for start in range(0, len(wanted), job_samples)]
        chosen = None if only is None else [ids[place] for place in only if place < len(ids)]

        new = rounds.allocate(connection, round_id, kind, job_samples, chosen)
        enqueued = [[(ids.index(key), slot) for key, slot in items_of(connection, job)] for job in new]
        assert sorted(enqueued) == chunks
        assert rounds.allocate(connection, round_id, kind, job_samples, chosen) == []


@CASES
@given(round_states())
def test_what_a_round_lacks_is_counted(
    scratch: Scratch, state: tuple[list[ProblemState], list[JobRow]]
) -> None:
    problems, held_by = state
    states = [job.state for job in held_by]
    with scratch() as connection:
        ids = add_problems(connection, len(problems))
        round_id = _make_round(connection, ids, problems, held_by)
        run = runs.get_run(connection, rounds.get_round(connection, round_id).run_id)
        other = add_iteration(connection, run, ids, number=1)  # lacks what it lacks
        add_job(connection, other.id, items={ids[0]: [0]})
        assert rounds.shortfall(connection, round_id) == Shortfall(
            live=sum(state.live for state in states),
            failed=states.count(JobState.FAILED),
            undrawn=len(missing(problems, [], JobKind.SAMPLE)),
            unverified=len(missing(problems, [], JobKind.VERIFY)),
            unscored=len(missing(problems, [], JobKind.SCORE)),
        )
        assert rounds.has_live_jobs(connection, round_id) == any(state.live for state in states)
        live = [job for job in held_by if job.state.live]
        query = """
            SELECT problem_id, allotment, drawn, in_flight, remaining
            FROM remaining_budget WHERE iteration = 0
        """
        assert {row[0]: row[1:] for row in select(connection, query)} == {
            ids[place]: remaining_budget(place, problem, live) for place, problem in enumerate(problems)
        }


def remaining_budget(place: int, problem: ProblemState, live: list[JobRow]) -> tuple[int, int, int, int]:
    """Of a problem: allotment, samples drawn, in flight and remaining."""
    in_flight = sum(
        job.kind is JobKind.SAMPLE and slot not in problem.drawn
        for job in live
        for at, slot in job.items
        if at == place
    )
    remaining = max(problem.allotment - len(problem.drawn) - in_flight, 0)
    return problem.allotment, len(problem.drawn), in_flight, 0 if problem.excluded else remaining


def _make_round(
    connection: Connection, ids: list[int], problems: list[ProblemState], held_by: list[JobRow]
) -> int:
    round_id = add_iteration(connection, add_run(connection), ids).id
    connection.execute(
        text("""
            UPDATE round_problems SET allotment = given.allotment, exclusion = given.reason
            FROM unnest(CAST(:ids AS bigint[]), CAST(:allotments AS int[]), CAST(:reasons AS text[]))
                AS given (problem_id, allotment, reason)
            WHERE round_id = :round_id AND round_problems.problem_id = given.problem_id
        """),
        {
            "round_id": round_id,
            "ids": ids,
            "allotments": [problem.allotment for problem in problems],
            "reasons": ["too long" if problem.excluded else None for problem in problems],
        },
    )
    add_samples(
        connection, round_id, {key: problem.drawn for key, problem in zip(ids, problems, strict=True)}
    )
    for job in held_by:
        items: dict[int, list[int]] = {}
        for place, slot in job.items:
            items.setdefault(ids[place], []).append(slot)
        add_job(connection, round_id, job.kind, items, job.state)
    return round_id


def test_another_round_is_not_touched(connection: Connection) -> None:
    ids = add_problems(connection, 2)
    first = add_iteration(connection, add_run(connection), ids)
    second = add_iteration(connection, add_run(connection), ids)
    add_samples(connection, second.id, {ids[0]: {0: Drawn()}})
    add_job(connection, second.id, JobKind.SAMPLE, {ids[1]: [0, 1, 2]})
    (job,) = rounds.allocate(connection, first.id, JobKind.SAMPLE, 64)
    assert items_of(connection, job) == [(key, slot) for key in ids for slot in range(3)]


def test_a_lone_boundary_problem_may_take_the_whole_budget(connection: Connection) -> None:
    """7,500 problems with one at the boundary: it alone gets 5 · 7,500 samples and its pre-samples."""
    ids = add_problems(connection, 1)
    iteration = add_iteration(connection, add_run(connection), ids)
    connection.execute(text("UPDATE round_problems SET allotment = 37503"))
    new = rounds.allocate(connection, iteration.id, JobKind.SAMPLE, 1_000)
    assert len(new) == 38
    assert items_of(connection, max(new)) == [(ids[0], slot) for slot in range(37_000, 37_503)]


def test_two_at_once_enqueue_nothing_twice(database: Database) -> None:
    with database.begin() as connection:
        run = add_run(connection)
        iteration = add_iteration(connection, run, add_problems(connection, 10))
    barrier = threading.Barrier(4)

    def allocate() -> None:
        with database.begin() as connection:
            barrier.wait()
            lock_run(connection, run.id)
            rounds.allocate(connection, iteration.id, JobKind.SAMPLE, 7)

    assert at_once(*[allocate] * 4) == []
    with database.begin() as connection:
        held = select(connection, "SELECT problem_id, unnest(slots) FROM job_items")
    assert len(held) == len(set(held)) == 30


def test_a_batch_costs_what_the_batch_is_not_what_the_round_is(database: Database) -> None:
    """64 changed problems of a round of 60,000 samples are found by the key of samples."""
    query = resources.files("hsstar.store").joinpath("sql", "allocate.sql").read_text(encoding="utf-8")
    with database.begin() as connection:
        iteration = add_iteration(connection, add_run(connection), add_problems(connection, 1))
        connection.execute(text(LARGE_ROUND))
        changed = connection.execute(text("SELECT id FROM problems ORDER BY key LIMIT 64")).scalars().all()
        for kind in (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE):
            plan = connection.execute(
                text(f"EXPLAIN {query}"),
                {"round_id": iteration.id, "kind": kind, "problem_ids": list(changed), "job_samples": 64},
            )
            lines = "\n".join(plan.scalars())
            assert "using uq_samples_round_id_problem_id_slot on samples" in lines
            assert "Seq Scan on samples" not in lines


def test_the_planner_knows_the_rows_of_a_round_as_soon_as_they_are_there(connection: Connection) -> None:
    query = "SELECT reltuples FROM pg_class WHERE relname = :table"
    run = add_run(connection)
    ids = add_problems(connection, 7)
    dataset_id = datasets.find_dataset(connection, TRAIN).id
    first = add_iteration(connection, run, ids[:3])
    assert select(connection, query, table="round_problems") == [(3,)]
    second = add_iteration(connection, run, [], 1)
    rounds.assign_slice(connection, second.id, dataset_id, seed=0, limit=2, allotment=1)
    assert select(connection, query, table="round_problems") == [(5,)]
    spec = EvaluationSpec("key", dataset_id, 1, None)
    evaluation = evaluations.add_evaluation(connection, run.id, 0, run.model_id, spec)
    evaluations.assign_all_problems(connection, evaluation.id, dataset_id, None, 1)
    assert select(connection, query, table="round_problems") == [(12,)]
    add_labels(connection, first.id, dict.fromkeys(ids[:3], "boundary"))
    add_samples(connection, first.id, {ids[0]: dict.fromkeys(range(4), Drawn())})
    method.allot_budget(connection, run, first)
    assert select(connection, query, table="difficulty_labels") == [(3,)]
    assert select(connection, query, table="samples") == [(4,)]


LARGE_ROUND = """
    INSERT INTO problems (dataset_id, key, statement, reference_answer)
    SELECT id, 'large ' || number, 'large ' || number, '1' FROM datasets, generate_series(2, 7500) AS number;
    INSERT INTO round_problems (round_id, problem_id, position, allotment)
    SELECT rounds.id, problems.id, problems.id, 9 FROM rounds, problems ON CONFLICT DO NOTHING;
    INSERT INTO samples (round_id, problem_id, slot)
    SELECT round_id, problem_id, slot FROM round_problems, generate_series(0, 7) AS slot;
    ANALYZE problems, round_problems, samples, jobs, job_items
"""
