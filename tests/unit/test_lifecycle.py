"""Which state may follow which, how long a failed job waits, and what a verdict follows from."""

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
from hsstar.domain.verdict import LASTING_CAUSES, VERDICT_OF_CAUSE, Cause, Judgement, Verdict


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


def test_an_answer_that_cannot_be_read_is_wrong_and_a_failed_check_is_no_verdict() -> None:
    wrong = dict.fromkeys((Cause.INCORRECT, Cause.NO_ANSWER, Cause.UNPARSABLE), Verdict.INCORRECT)
    unknown = dict.fromkeys((Cause.TIMED_OUT, Cause.CRASHED, Cause.BAD_REFERENCE), None)
    assert {Cause.CORRECT: Verdict.CORRECT, **wrong, **unknown} == VERDICT_OF_CAUSE
    assert {cause: Judgement(cause, "42").verdict for cause in Cause} == VERDICT_OF_CAUSE


def test_what_depends_on_the_machine_does_not_last_and_no_answer_needs_no_memory() -> None:
    assert set(Cause) - LASTING_CAUSES == {Cause.TIMED_OUT, Cause.CRASHED, Cause.NO_ANSWER}
