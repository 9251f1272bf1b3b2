"""The progress of a run: its rounds and queues, why something waits, and how long it will take."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeVar

from hsstar.domain.errors import ConflictError, DatabaseError, HeldError, SchemaError
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT
from hsstar.store.read import progress
from hsstar.store.read.progress import QueueState, RoundProgress
from hsstar.store.runs import Run

_TRAINING_SHARE = 0.2
"""Of an iteration, in the estimate of the time that is left; sampling takes the rest."""
_LEAST_GAIN = 0.01
"""The share of a run that has to be done before its pace says anything."""


_AWAY_SECONDS = 2.0
_LOOK_SECONDS = 0.5
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far a run is."""

    rounds: list[RoundProgress]
    queues: list[QueueState]
    hold: str | None = None  # why the run is held, and what to do

    @property
    def state(self) -> Literal["running", "done", "stuck", "held"]:
        """`held` once no job of a held run is running; `stuck` if failed jobs alone are left to a run."""
        if self.hold is not None and not any(queue.running for queue in self.queues):
            return "held"
        if all(round_.done for round_ in self.rounds):
            return "done"
        live = any(queue.queued or queue.running for queue in self.queues)
        return "stuck" if not live and any(queue.failed for queue in self.queues) else "running"

    def of_kind(self, kind: str | None) -> "RunProgress":
        """Return the same with the rounds of a kind alone; None is every kind."""
        return self if kind is None else replace(self, rounds=[of for of in self.rounds if of.kind == kind])


def run_progress(database: Database, run: Run) -> RunProgress:
    """Return the progress of a run as its rows say now."""
    with database.begin() as connection:
        return RunProgress(
            progress.round_progress(connection, run.id),
            progress.queue_states(connection, run.id),
            runs.get_run(connection, run.id).hold_line,
        )


def patiently(look: Callable[[], Result], tell: Callable[[str], None]) -> Result:
    """Return what a look at the database gives; while that is away, tell so once and wait for it."""
    told = False
    while True:
        try:
            found = look()
        except SchemaError:
            raise
        except DatabaseError as error:
            if not told:
                tell(f"{error}; waiting for it")
            told = True
            time.sleep(_AWAY_SECONDS)
        else:
            if told:
                tell("the database is back")
            return found


def refuse_incomplete(run: str, progress: RunProgress) -> None:
    """Raise HeldError for a run that is held, ConflictError for one that failed jobs keep from its end."""
    if progress.hold is not None:
        raise HeldError(progress.hold)
    if progress.state == "stuck":
        raise ConflictError(
            f"run {run!r} is incomplete and cannot continue: see hsstar status {run} --missing, then "
            f"hsstar jobs retry {run}, or hsstar iterate {run} --accept-missing to continue without"
        )


def wait_for_run(
    database: Database,
    run: Run,
    timeout_seconds: float | None,
    look: Callable[[RunProgress], None],
    tell: Callable[[str], None],
    kind: str | None = None,
) -> RunProgress | None:
    """Return the progress of a run once nothing of it is under way; None if that takes too long.

    With a kind only its rounds count. `look` is called with the progress twice a second, `tell` when the
    database is away and when it is back.
    """
    started = time.monotonic()
    while True:
        progress = patiently(lambda: run_progress(database, run).of_kind(kind), tell)
        look(progress)
        if progress.state != "running":
            return progress
        if timeout_seconds is not None and time.monotonic() - started >= timeout_seconds:
            return None
        time.sleep(_LOOK_SECONDS)


def exclusions(database: Database, run: Run) -> list[tuple[str, int]]:
    """Return (reason, problems) for the problems that the iterations of a run left out."""
    with database.begin() as connection:
        return progress.exclusions(connection, run.id)


def evaluation_name(evaluation: RoundProgress) -> str:
    """Return what an evaluation measures, or what is continued, as a person reads it."""
    return "held out" if evaluation.evaluation_key in ("", HELD_OUT) else evaluation.evaluation_key


def round_name(row: RoundProgress) -> str:
    """Return how a person calls a round."""
    match row.kind:
        case "iteration":
            return f"iteration {row.number}"
        case "source":
            return f"iteration {row.number} source {row.evaluation_key}"
    return f"M_{row.number} {evaluation_name(row)}"


@dataclass(frozen=True, slots=True)
class OpenRound:
    """The samples and jobs of a round that is not done."""

    round: str
    done: int
    in_flight: int
    failed: int
    remaining: int
    jobs_queued: int
    jobs_running: int


def open_rounds(rounds: Sequence[RoundProgress]) -> list[OpenRound]:
    """Return the rounds that are not done."""
    return [
        OpenRound(
            f"{row.kind} {row.number} {row.evaluation_key}".strip(),
            row.drawn,
            row.slots_in_flight,
            row.failed_slots,
            max(0, row.budget - row.drawn - row.slots_in_flight - row.failed_slots),
            row.queued,
            row.running,
        )
        for row in rounds
        if not row.done
    ]


STILL_SECONDS = 300.0
"""Without progress of a running job, after which people are told."""


def waiting_reasons(queues: Sequence[QueueState]) -> list[str]:
    """Return why jobs of a run wait or have failed, and what to do; empty while everything moves."""
    reasons = []
    for queue in queues:
        waiting = queue.queued + queue.abandoned
        if waiting and not queue.workers:
            reasons.append(
                f"{waiting} {queue.kind} jobs wait because no live worker serves that queue; "
                f"start one: hsstar worker --role {queue.kind} (or hsstar up)"
            )
        elif queue.wakeups_due:
            reasons.append(
                f"{queue.wakeups_due} {queue.kind} jobs wait for a wake-up that the broker does not take; "
                "check that it is up and its disk has room; the workers' logs say more"
            )
        elif queue.next_attempt_seconds is not None and queue.last_error is not None:
            reasons.append(
                f"a {queue.kind} job is tried again in {max(1, round(queue.next_attempt_seconds))} s "
                f"after: {queue.last_error}"
            )
        if (queue.still_seconds or 0.0) > STILL_SECONDS:
            reasons.append(
                f"no progress for {queue.still_seconds:,.0f} s in a running {queue.kind} job; "
                "its worker ends after HSSTAR_STALL_SECONDS, and its log says what it does"
            )
        if queue.failed:
            reasons.append(
                f"{queue.failed} {queue.kind} jobs failed: {queue.last_error}; "
                "see hsstar jobs list --state failed, fix the cause, then hsstar jobs retry "
                "(or hsstar iterate RUN --accept-missing)"
            )
    return reasons


class ShareFigures(Protocol):
    """What the share of an iteration that is done follows from."""

    @property
    def drawn(self) -> int:
        """Samples."""

    @property
    def verified(self) -> int:
        """Samples with a cause."""

    @property
    def budget(self) -> int:
        """Samples that it may draw."""

    @property
    def training_steps_done(self) -> int:
        """Optimiser steps so far."""

    @property
    def training_steps(self) -> int | None:
        """Optimiser steps in all; None before its training."""


def finished_share(rounds: Sequence[RoundProgress]) -> float:
    """Return the share that is done, in [0, 1]: of the iterations; after them of open step labels.

    Without either it is that of the evaluations.
    """
    iterations = [row for row in rounds if row.kind == "iteration"]
    counted = iterations or rounds
    if all(row.done for row in iterations):
        counted = [row for row in rounds if row.kind == "steps" and not row.done] or counted
    return sum(map(_share, counted)) / len(counted) if counted else 1.0


def _share(row: RoundProgress) -> float:
    if row.done:
        return 1.0
    return _sampled_share(row) if row.kind != "iteration" else iteration_share(row)


def _sampled_share(figures: ShareFigures) -> float:
    """Count a sample half when it is drawn, and whole when it is verified: a job's come all at once then."""
    return (figures.drawn + figures.verified) / (2 * figures.budget) if figures.budget else 0.0


def iteration_share(figures: ShareFigures) -> float:
    """Return the share of an open iteration that is done, in [0, 1]."""
    trained = figures.training_steps_done / figures.training_steps if figures.training_steps else 0.0
    return (1 - _TRAINING_SHARE) * _sampled_share(figures) + _TRAINING_SHARE * trained


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """An estimate of the time that is left, and what it rests on."""

    seconds: float
    gained: float  # share of the whole that was done while somebody looked
    measured_seconds: float  # in which that was done


class Pace:
    """Estimates the time that is left from the pace since the first look."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first_share: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds since the first look."""
        return time.monotonic() - self._started

    def time_left(self, rounds: Sequence[RoundProgress]) -> TimeLeft | None:
        """Return what is left; None at the end, or before there is a pace."""
        share = finished_share(rounds)
        if self._first_share is None:
            self._first_share = share
        gained, elapsed = share - self._first_share, self.elapsed
        if gained < _LEAST_GAIN or share >= 1:
            return None
        return TimeLeft(elapsed * (1 - share) / gained, gained, elapsed)
