"""A run while it goes: progress, speed, the time that is left, workers, and what is wrong."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from hsstar.insights.iterations import fault_lines
from hsstar.insights.progress import Pace, RunProgress, TimeLeft, run_progress, waiting_reasons
from hsstar.insights.workers import list_workers
from hsstar.store.database import Database
from hsstar.store.read.overview import WorkerSummary
from hsstar.store.read.progress import RoundProgress
from hsstar.store.read.samples import Sample, newest_sample
from hsstar.store.runs import Run

SPEED_SECONDS = 30.0
"""The time over which tokens per second are measured."""
_LOST_FOR = timedelta(minutes=10)
_SAMPLE_CHARACTERS = 2_000


@dataclass(frozen=True, slots=True)
class RunLook:
    """A run at one moment.

    Attributes:
        workers: those at work, idle or stopping, and those lost within ten minutes.
        tokens_per_second: drawn for this run lately; None before there are two looks.
        left: None at the end, or before there is a pace.
        warnings: what is wrong or waits, a line each.
        sample: the newest one with a verdict, if it was asked for.
    """

    progress: RunProgress
    workers: list[WorkerSummary]
    tokens_per_second: float | None
    left: TimeLeft | None
    warnings: list[str]
    sample: Sample | None


class RunWatch:
    """Looks at a run again and again; with a kind at its rounds of that kind alone."""

    def __init__(
        self, database: Database, run: Run, kind: str | None = None, *, with_sample: bool = False
    ) -> None:
        self.run = run
        self.pace = Pace()
        self._database = database
        self._kind = kind
        self._with_sample = with_sample
        self._tokens: deque[tuple[float, float]] = deque()

    def look(self) -> RunLook:
        """Return how the run is now."""
        progress = run_progress(self._database, self.run).of_kind(self._kind)
        workers = _recent(list_workers(self._database))
        return RunLook(
            progress,
            workers,
            self._speed(progress.rounds),
            self.pace.time_left(progress.rounds),
            [
                *fault_lines(self.run, progress.rounds),
                *waiting_reasons(progress.queues),
                *lost_worker_lines(workers),
            ],
            self._newest_sample() if self._with_sample else None,
        )

    def _speed(self, rounds: Sequence[RoundProgress]) -> float | None:
        now = time.monotonic()
        tokens = sum(row.drawn * (row.mean_tokens or 0.0) for row in rounds)
        self._tokens.append((now, tokens))
        while len(self._tokens) > 2 and now - self._tokens[1][0] >= SPEED_SECONDS:
            self._tokens.popleft()
        began, before = self._tokens[0]
        return max(0.0, tokens - before) / (now - began) if now > began else None

    def _newest_sample(self) -> Sample | None:
        with self._database.begin() as connection:
            return newest_sample(connection, self.run.id, characters=_SAMPLE_CHARACTERS)


def _recent(workers: Sequence[WorkerSummary]) -> list[WorkerSummary]:
    """Return the workers without those that were lost long before the last heartbeat of any."""
    newest = max((worker.last_heartbeat for worker in workers), default=None)
    return [
        worker
        for worker in workers
        if worker.state != "lost" or (newest is not None and newest - worker.last_heartbeat < _LOST_FOR)
    ]


def lost_worker_lines(workers: Sequence[WorkerSummary]) -> list[str]:
    """Return a line per worker that has vanished."""
    return [
        f"worker {worker.worker} is lost: no heartbeat since {worker.last_heartbeat.astimezone():%H:%M:%S}; "
        "other workers take its jobs over when their leases end"
        for worker in workers
        if worker.state == "lost"
    ]
