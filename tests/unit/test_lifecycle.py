"""Which state may follow which, and how long a failed job waits."""

import pytest

from hsstar.domain.errors import IllegalTransitionError
from hsstar.domain.lifecycle import (
    JOB_TRANSITIONS,
    IterationState,
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


def test_queued_and_running_jobs_are_in_flight() -> None:
    assert [state for state in JobState if state.live] == [JobState.QUEUED, JobState.RUNNING]


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
