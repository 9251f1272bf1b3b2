"""The allocator enqueues exactly what is missing: nothing twice, nothing that a job holds already."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.domain.verdict import Cause
from hsstar.store import datasets, evaluations, method, rounds, runs
from hsstar.store.database import Database
from hsstar.store.rounds import Shortfall
from tests.store import factory
from tests.store.conftest import Scratch
from tests.store.factory import (
    TRAIN,
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_run,
    add_samples,
    select,
)

CASES = settings(max_examples=60, deadline=None)
SLOTS = 6
KINDS = (JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE)
LARGE_ROUND = Path(__file__).with_name("large_round.sql").read_text()

Address = tuple[int, int]
"""(place of the problem in the round, slot)."""


class ProblemState(NamedTuple):
    allotment: int
    excluded: bool
    drawn: Mapping[int, Drawn]


class JobRow(NamedTuple):
    kind: JobKind
    state: JobState
    items: list[Address]


State = tuple[list[ProblemState], list[JobRow]]

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
def round_states(draw: st.DrawFn) -> State:
    problems = draw(st.lists(problem_states, min_size=1, max_size=5))
    address = st.tuples(st.integers(0, len(problems) - 1), st.integers(0, SLOTS - 1))
    items = st.lists(address, min_size=1, max_size=6, unique=True)
    job = st.builds(JobRow, st.sampled_from(KINDS), st.sampled_from(JobState), items)
    return problems, draw(st.lists(job, max_size=4))


@contextmanager
def made(scratch: Scratch, state: State) -> Iterator[tuple[Connection, int, list[int]]]:
    """A round in this state, and the ids of its problems; another round has samples, jobs and lacks too."""
    problems, held_by = state
    with scratch() as connection:
        round_id, ids = factory.add_round(connection, len(problems))
        allotments = [problem.allotment for problem in problems]
        change = "UPDATE round_problems SET allotment = (CAST(:allotments AS int[]))[position + 1]"
        factory.execute(connection, change, allotments=allotments)
        excluded = [key for key, problem in zip(ids, problems, strict=True) if problem.excluded]
        rounds.exclude(connection, round_id, dict.fromkeys(excluded, "too long"))
        run = runs.get_run(connection, rounds.get_round(connection, round_id).run_id)
        other = add_iteration(connection, run, ids, 1).id
        add_samples(connection, round_id, dict(zip(ids, (of.drawn for of in problems), strict=True)))
        add_samples(connection, other, {ids[0]: {0: Drawn()}})
        add_job(connection, other, items={ids[-1]: [1]})
        for job in held_by:
            items: dict[int, list[int]] = {}
            for place, slot in job.items:
                items.setdefault(ids[place], []).append(slot)
            add_job(connection, round_id, job.kind, items, job.state)
        yield connection, round_id, ids


def missing(problems: list[ProblemState], held_by: list[JobRow], kind: JobKind) -> list[Address]:
    """What a round lacks, the slow and obvious way."""
    holding = [job for job in held_by if job.kind is kind and job.state is not JobState.DONE]
    held = {address for job in holding for address in job.items}

    def lacks(problem: ProblemState, slot: int) -> bool:
        sample = problem.drawn.get(slot)
        if kind is JobKind.SAMPLE:
            return sample is None and slot < problem.allotment
        return sample is not None and (sample.cause if kind is JobKind.VERIFY else sample.reward) is None

    return [
        (place, slot)
        for place, problem in enumerate(problems)
        for slot in range(SLOTS)
        if not problem.excluded and lacks(problem, slot) and (place, slot) not in held
    ]


@CASES
@given(
    round_states(),
    st.sampled_from(KINDS),
    st.integers(1, 5),
    st.one_of(st.none(), st.sets(st.integers(0, 4))),
)
def test_exactly_the_missing_slots_are_enqueued(
    scratch: Scratch, state: State, kind: JobKind, job_samples: int, only: set[int] | None
) -> None:
    wanted = [address for address in missing(*state, kind) if only is None or address[0] in only]
    chunks = [wanted[start : start + job_samples] for start in range(0, len(wanted), job_samples)]
    with made(scratch, state) as (connection, round_id, ids):
        chosen = None if only is None else [ids[place] for place in only if place < len(ids)]
        new = rounds.allocate(connection, round_id, kind, job_samples, chosen)
        enqueued = [
            [(ids.index(key), slot) for key, slot in factory.items_of(connection, job)] for job in new
        ]
        assert sorted(enqueued) == chunks
        assert rounds.allocate(connection, round_id, kind, job_samples, chosen) == []


@CASES
@given(round_states())
def test_what_a_round_lacks_is_counted(scratch: Scratch, state: State) -> None:
    problems, held_by = state
    states = [job.state for job in held_by]
    live = [job for job in held_by if job.state.live]
    with made(scratch, state) as (connection, round_id, ids):
        assert rounds.shortfall(connection, round_id) == Shortfall(
            live=len(live),
            failed=states.count(JobState.FAILED),
            undrawn=len(missing(problems, [], JobKind.SAMPLE)),
            unverified=len(missing(problems, [], JobKind.VERIFY)),
            unscored=len(missing(problems, [], JobKind.SCORE)),
        )
        assert rounds.has_live_jobs(connection, round_id) == bool(live)
        columns = "problem_id, allotment, drawn, in_flight, remaining"
        query = f"SELECT {columns} FROM remaining_budget WHERE iteration = 0 ORDER BY problem_id"
        assert select(connection, query) == [
            (ids[place], *remaining_budget(place, problem, live)) for place, problem in enumerate(problems)
        ]


def remaining_budget(place: int, problem: ProblemState, live: list[JobRow]) -> tuple[int, int, int, int]:
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
            values = {"round_id": round_id, "kind": kind, "problem_ids": changed, "job_samples": 64}
            plan = connection.execute(text(f"EXPLAIN {query}"), values)
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
    evaluation = factory.add_evaluation(connection, run)
    evaluations.assign_all_problems(connection, evaluation, dataset_id, None, 1)
    assert select(connection, query, table="round_problems") == [(12,)]
    factory.add_labels(connection, first.id, dict.fromkeys(ids[:3], "boundary"))
    add_samples(connection, first.id, {ids[0]: dict.fromkeys(range(4), Drawn())})
    method.allot_budget(connection, run, first)
    assert select(connection, query, table="difficulty_labels") == [(3,)]
    assert select(connection, query, table="samples") == [(4,)]
