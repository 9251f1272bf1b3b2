"""Which state may follow which, how long a failed job waits, and which job has its turn on one engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.engine_schedule import VERIFIER, EngineKey, WaitingJobs, next_job
from hsstar.domain.errors import IllegalTransitionError
from hsstar.domain.lifecycle import (
    JOB_TRANSITIONS,
    IterationState,
    JobKind,
    JobState,
    WorkerExit,
    next_state,
    retry_delay_seconds,
    states_before,
)


def test_the_way_of_a_job() -> None:
    assert {state.value: states_before(state) for state in JobState} == {
        "queued": ["running", "failed"],
        "running": ["queued"],
        "done": ["running"],
        "failed": ["running"],
        "discarded": ["failed"],
    }
    assert set(JOB_TRANSITIONS) == set(JobState)
    assert [state.value for state in JobState if state.live] == ["queued", "running"]


def test_an_iteration_goes_one_way() -> None:
    way = [IterationState.WAITING]
    while way[-1] is not IterationState.DONE:
        way.append(next_state(way[-1]))
    assert way == list(IterationState)
    with pytest.raises(IllegalTransitionError, match="nothing follows the iteration state 'done'"):
        next_state(IterationState.DONE)


def test_a_job_waits_longer_after_each_attempt_but_never_long() -> None:
    assert [retry_delay_seconds(attempts) for attempts in range(6)] == [1, 1, 4, 16, 60, 60]
    assert retry_delay_seconds(1_000) == 60


def test_supervisors_know_how_a_worker_exits() -> None:
    exits = (WorkerExit.STOPPED, WorkerExit.FAILED, WorkerExit.DRAINED, WorkerExit.WRONG_SCHEMA)
    assert exits == (0, 1, 80, 81)


SAMPLER, OTHER_SAMPLER = EngineKey(JobKind.SAMPLE, (1,)), EngineKey(JobKind.SAMPLE, (2,))
SCORER, TRAINER = EngineKey(JobKind.SCORE, (1,)), EngineKey(JobKind.TRAIN)
ENGINES = {"sampler": SAMPLER, "other": OTHER_SAMPLER, "scorer": SCORER, "trainer": TRAINER}
NAMED = ENGINES | {"verifier": VERIFIER}
PATIENCE = 60.0


def chosen(present: EngineKey | None, since: float, **seconds: float) -> EngineKey | None:
    waiting = [WaitingJobs(NAMED[name], at, waited) for at, (name, waited) in enumerate(seconds.items())]
    found = next_job(waiting, present, since, PATIENCE)
    return found.engine if found else None


def test_the_engine_in_place_goes_on_while_it_has_work() -> None:
    assert chosen(SAMPLER, 10, sampler=1, scorer=59, other=30) == SAMPLER
    assert chosen(SAMPLER, 10, sampler=1, scorer=900) == SAMPLER  # it has not been in place for long
    assert chosen(SAMPLER, 900, sampler=1, scorer=59) == SAMPLER


def test_it_makes_room_when_it_has_none_or_others_have_waited_long() -> None:
    assert chosen(SAMPLER, 10, scorer=1, other=2) == OTHER_SAMPLER
    assert chosen(SAMPLER, 61, sampler=300, scorer=61, other=70) == OTHER_SAMPLER
    assert chosen(SAMPLER, 61, sampler=300, scorer=61, other=5) == SCORER
    assert chosen(None, 0, scorer=1, sampler=2) == SAMPLER
    assert chosen(SAMPLER, 10) is None


def test_verification_takes_its_turn_beside_any_engine() -> None:
    assert chosen(SAMPLER, 10, sampler=1, verifier=2) == VERIFIER
    assert chosen(SAMPLER, 10, sampler=3, verifier=2) == SAMPLER
    assert chosen(SAMPLER, 10, verifier=2, scorer=1) == VERIFIER
    assert chosen(SAMPLER, 61, sampler=3, verifier=900) == VERIFIER


arrival = st.tuples(st.floats(0, 3600), st.sampled_from([*NAMED.values()]))


@given(st.lists(arrival, min_size=1, max_size=60), st.floats(0.1, 40))
def test_every_job_runs_in_bounded_time_and_engines_rarely_change(
    arrivals: list[tuple[float, EngineKey]], job_seconds: float
) -> None:
    now, since = 0.0, 0.0
    present: EngineKey | None = None
    left = dict(enumerate(sorted(arrivals, key=lambda arrival: arrival[0])))
    while left:
        oldest: dict[EngineKey, WaitingJobs] = {}
        for number, (at, engine) in left.items():
            if at <= now:
                oldest.setdefault(engine, WaitingJobs(engine, number, now - at))
        if not oldest:
            now = min(at for at, _ in left.values())
            continue
        job = next_job([*oldest.values()], present, now - since, PATIENCE)
        assert job is not None
        assert job == oldest[job.engine]
        if job.engine not in (present, VERIFIER):
            if present in oldest:  # it is driven out, by one that has waited
                assert now - since >= PATIENCE
                assert job.seconds >= PATIENCE
            present, since = job.engine, now
        del left[job.job_id]
        now += job_seconds
    assert now <= 3600 + len(arrivals) * job_seconds + 1e-6  # it has never idled beside a waiting job


def test_engines_that_always_have_work_share_the_time() -> None:
    now = since = 0.0
    present: EngineKey | None = None
    runs: list[EngineKey] = []
    queued = dict.fromkeys(ENGINES.values(), 0.0)  # each job is followed by another at once
    while now < 3600:
        waiting = [WaitingJobs(engine, at, now - queued[engine]) for at, engine in enumerate(queued)]
        job = next_job(waiting, present, now - since, PATIENCE)
        assert job is not None
        if job.engine != present:
            present, since = job.engine, now
            runs.append(job.engine)
        now += 5
        queued[job.engine] = now
    assert len(runs) <= 1 + 3600 / PATIENCE
    assert {*runs[-4:]} == {*ENGINES.values()}
