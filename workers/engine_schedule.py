"""Which queued job a worker claims at a wake-up, if memory holds one engine."""

import time
from collections.abc import Callable, Sequence

from hsstar.domain.engine_schedule import VERIFIER, EngineKey, next_job
from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups
from hsstar.store.queue.by_engine import waiting_jobs


class EngineScheduler:
    """Claims the job that `domain.engine_schedule` chooses, so that engines change rarely."""

    def __init__(
        self, kinds: Sequence[JobKind], swap_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kinds = kinds
        self._swap_seconds = swap_seconds
        self._clock = clock
        self._present: EngineKey | None = None
        self._since = clock()

    def claim(
        self, database: Database, job_id: int | None, worker: str, lease_seconds: float
    ) -> jobs.Job | None:
        """Claim the job that comes next, whatever job was named; None if none waits."""
        refused = None
        while True:
            with database.begin() as connection:
                present_seconds = self._clock() - self._since
                waiting = waiting_jobs(connection, self._kinds)
                chosen = next_job(waiting, self._present, present_seconds, self._swap_seconds)
                if chosen is None or chosen.job_id == refused:
                    return None  # this worker may claim nothing: it was asked to stop
                job = jobs.claim(connection, chosen.job_id, worker, lease_seconds)
            if job is not None:
                break
            refused = chosen.job_id  # another worker was faster, unless the job still waits
        if chosen.engine not in (self._present, VERIFIER):
            self._present, self._since = chosen.engine, self._clock()
        if job_id is not None and job_id != job.id:
            with database.begin() as connection:  # a second one: two workers may name each other's jobs
                wakeups.reset_wakeups(connection, [job_id])
        return job
