"""The progress of a run: lines for a person, a live view, and why something waits."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from hsstar.cli.views.output import console, duration, error_console
from hsstar.domain.lifecycle import IterationState
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.evaluations import HELD_OUT
from hsstar.store.read import progress as statistics
from hsstar.store.read.progress import QueueState, RoundProgress

_REFRESH_SECONDS = 0.5
_LINE_SECONDS = 5.0
_TRAINING_SHARE = 0.2
"""Of an iteration, in the estimate of the time that is left; sampling takes the rest."""


def round_lines(progress: Sequence[RoundProgress]) -> list[str]:
    """One line per round: where it stands, with counts per stage."""
    states = {found.number: found.state for found in progress if found.kind == "iteration"}
    return [
        _iteration_line(found, states.get(found.number - 1))
        if found.kind == "iteration"
        else _evaluation_line(found)
        for found in progress
    ]


def _iteration_line(found: RoundProgress, state_before: str | None) -> str:
    head = f"iteration {found.number}  {found.state.replace('_', '-'):12}"
    if found.state == IterationState.WAITING:
        ready = state_before in (None, IterationState.EVALUATING, IterationState.DONE)
        return f"{head}  " + ("about to start" if ready else f"waits for iteration {found.number - 1}")
    parts = [f"samples {found.drawn}/{found.budget}"]
    if found.state in (IterationState.PRE_SAMPLING, IterationState.RE_SAMPLING):
        parts.append(f"verified {found.verified}")
        parts += [f"scored {found.scored}"] if found.scored else []
    if found.inlier + found.boundary + found.outlier:
        parts.append(f"inlier {found.inlier} · boundary {found.boundary} · outlier {found.outlier}")
    if found.pairs:
        parts.append(f"pairs {found.pairs}")
    if found.training_steps:
        parts.append(f"training step {found.training_steps_done}/{found.training_steps}")
    return f"{head}  " + ", ".join(parts + _trouble(found))


def _evaluation_line(found: RoundProgress) -> str:
    measured = "held out" if found.evaluation_key in ("", HELD_OUT) else found.evaluation_key
    head = f"M_{found.number} {measured}  {found.state:9}"
    if found.accuracy is not None:
        return f"{head}  accuracy {found.accuracy:.3f} ± {found.standard_error or 0:.3f}"
    return f"{head}  " + ", ".join(
        [f"samples {found.drawn}/{found.allotted}", f"verified {found.verified}", *_trouble(found)]
    )


def _trouble(found: RoundProgress) -> list[str]:
    parts = []
    if found.excluded:
        parts.append(f"{found.excluded} problems left out")
    if found.failed:
        parts.append(f"{found.failed} jobs failed")
    return parts


def waiting_reasons(queues: Sequence[QueueState]) -> list[str]:
    """Why jobs of a run wait or have failed, and what to do; empty while everything moves."""
    reasons = []
    for queue in queues:
        if queue.queued and not queue.workers:
            reasons.append(
                f"{queue.queued} {queue.kind} jobs wait because no live worker serves that queue; "
                f"start one: hsstar worker --role {queue.kind} (or hsstar up)"
            )
        elif queue.wakeups_due:
            reasons.append(
                f"{queue.wakeups_due} {queue.kind} jobs wait for a wake-up that the broker does not take; "
                "is it up, with room on its disk? The workers' logs tell"
            )
        elif queue.next_attempt_seconds is not None and queue.last_error is not None:
            reasons.append(
                f"a {queue.kind} job is tried again in {max(1, round(queue.next_attempt_seconds))} s "
                f"after: {queue.last_error}"
            )
        if queue.failed:
            reasons.append(
                f"{queue.failed} {queue.kind} jobs failed: {queue.last_error}; "
                "see hsstar jobs list --state failed, mend the cause, then hsstar jobs retry "
                "(or hsstar iterate RUN --accept-missing)"
            )
    return reasons


def finished_share(progress: Sequence[RoundProgress]) -> float:
    """How much of the enqueued iterations is done, in [0, 1]; of the evaluations where there is none."""
    iterations = [found for found in progress if found.kind == "iteration"] or list(progress)
    return sum(map(_share, iterations)) / len(iterations) if iterations else 1.0


def _share(found: RoundProgress) -> float:
    if found.done:
        return 1.0
    sampled = found.verified / found.budget if found.budget else 0.0
    if found.kind == "evaluation":
        return sampled
    trained = found.training_steps_done / found.training_steps if found.training_steps else 0.0
    return (1 - _TRAINING_SHARE) * sampled + _TRAINING_SHARE * trained


class Watch:
    """Follows a run until everything that is enqueued is done, or nothing can move any more."""

    def __init__(self, database: Database, run_name: str, *, to_stderr: bool = False) -> None:
        self._database = database
        self._console = error_console if to_stderr else console
        self._started = time.monotonic()
        self._first_share: float | None = None
        with database.begin() as connection:
            self._run = runs.find_run(connection, run_name)

    def look(self) -> tuple[list[RoundProgress], list[QueueState]]:
        """The present state of the rows."""
        with self._database.begin() as connection:
            return (
                statistics.round_progress(connection, self._run.id),
                statistics.queue_states(connection, self._run.id),
            )

    def follow(self) -> bool:
        """Shows the progress until the end; False if failed jobs hold the run up."""
        if self._console.is_terminal:
            return self._follow_live()
        return self._follow_by_lines()

    def _follow_live(self) -> bool:
        with Live(
            console=Console(highlight=False, stderr=self._console.stderr), refresh_per_second=4
        ) as live:
            while True:
                progress, queues = self.look()
                live.update(self._view(progress, queues))
                if (end := self._end(progress, queues)) is not None:
                    return end
                time.sleep(_REFRESH_SECONDS)

    def _follow_by_lines(self) -> bool:
        shown: list[str] = []
        last = 0.0
        while True:
            progress, queues = self.look()
            end = self._end(progress, queues)
            if end is not None or time.monotonic() - last >= _LINE_SECONDS:
                lines = round_lines(progress) + waiting_reasons(queues)
                for line in lines:
                    if line not in shown:
                        self._console.print(f"{line}{self._left(progress)}", markup=False)
                shown, last = lines, time.monotonic()
                sys.stdout.flush()
            if end is not None:
                return end
            time.sleep(_REFRESH_SECONDS)

    def _view(self, progress: list[RoundProgress], queues: list[QueueState]) -> Group:
        lines = [Text(line) for line in round_lines(progress)]
        reasons = [Text(reason, style="yellow") for reason in waiting_reasons(queues)]
        elapsed = duration(time.monotonic() - self._started)
        footer = Text(f"run {self._run.name}, {elapsed}{self._left(progress)}; Ctrl-C leaves it going")
        return Group(*lines, *reasons, footer)

    def _left(self, progress: list[RoundProgress]) -> str:
        """An estimate of the time that is left, from the pace since the watch began."""
        share = finished_share(progress)
        if self._first_share is None:
            self._first_share = share
        gained = share - self._first_share
        if gained < 0.01 or share >= 1:
            return ""
        seconds = (time.monotonic() - self._started) * (1 - share) / gained
        return f", about {duration(seconds)} left"

    @staticmethod
    def _end(progress: list[RoundProgress], queues: list[QueueState]) -> bool | None:
        if all(found.done for found in progress):
            return True
        stuck = any(queue.failed for queue in queues) and not any(
            queue.queued or queue.running for queue in queues
        )
        return False if stuck else None
