"""The states of jobs and iterations, and their transitions; how workers exit.

job        queued → running → done | failed
           running → queued   its lease expired, or its worker released it
           failed → queued    `hsstar jobs retry`
           failed → discarded `hsstar iterate RUN --accept-missing`

iteration  waiting → pre_sampling → re_sampling → training → evaluating → done
           waiting            its policy M_t does not exist yet
           evaluating         M_{t+1} exists, so the next iteration has started
"""

from enum import IntEnum, StrEnum
from typing import Literal

from hsstar.domain.errors import IllegalTransitionError

Event = Literal["failed", "stopped", "done"]
"""Of a run, of which a webhook is told."""


class JobKind(StrEnum):
    """What a job does; also the name of its queue."""

    SAMPLE = "sample"
    VERIFY = "verify"
    SCORE = "score"
    TRAIN = "train"


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    DISCARDED = "discarded"

    @property
    def live(self) -> bool:
        """Whether it is queued or running."""
        return self in (JobState.QUEUED, JobState.RUNNING)


class IterationState(StrEnum):
    """The state of an iteration."""

    WAITING = "waiting"
    PRE_SAMPLING = "pre_sampling"
    RE_SAMPLING = "re_sampling"
    TRAINING = "training"
    EVALUATING = "evaluating"
    DONE = "done"


PAIRED = (IterationState.TRAINING, IterationState.EVALUATING, IterationState.DONE)
"""States of an iteration that has its pairs."""


JOB_TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.QUEUED}),
    JobState.DONE: frozenset(),
    JobState.FAILED: frozenset({JobState.QUEUED, JobState.DISCARDED}),
    JobState.DISCARDED: frozenset(),
}

ITERATION_TRANSITIONS: dict[IterationState, IterationState | None] = {
    IterationState.WAITING: IterationState.PRE_SAMPLING,
    IterationState.PRE_SAMPLING: IterationState.RE_SAMPLING,
    IterationState.RE_SAMPLING: IterationState.TRAINING,
    IterationState.TRAINING: IterationState.EVALUATING,
    IterationState.EVALUATING: IterationState.DONE,
    IterationState.DONE: None,
}


def states_before(after: JobState) -> list[str]:
    """Return the states that may precede this one."""
    return [before.value for before, following in JOB_TRANSITIONS.items() if after in following]


def next_state(state: IterationState) -> IterationState:
    """Return the state that follows an iteration's state; raise IllegalTransitionError for `done`."""
    following = ITERATION_TRANSITIONS[state]
    if following is None:
        raise IllegalTransitionError(f"nothing follows the iteration state {state.value!r}")
    return following


def retry_delay_seconds(attempts: int) -> float:
    """Return how long a job waits after its `attempts`-th failed attempt: 1, 4, 16 … at most 60 seconds."""
    return float(min(60, 4 ** max(0, attempts - 1)))


class WorkerExit(IntEnum):
    """Exit codes of a worker; any other code, and a signal, is a crash."""

    STOPPED = 0  # by SIGTERM or Ctrl-C
    FAILED = 1
    DRAINED = 80  # by `hsstar workers stop`: its supervisor does not start it again
    WRONG_SCHEMA = 81  # the database is at another revision: a new start does not help
