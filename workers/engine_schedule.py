"""Which queued job a worker takes at a wake-up."""

import time
from collections.abc import Callable, Sequence

from hsstar.domain.engine_schedule import VERIFIER, EngineKey, next_job
from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups
from hsstar.store.queue.by_engine import waiting_jobs


class Turns:
    """Takes jobs so that one engine at a time has room in a process, and is changed rarely.

    A wake-up then says only that there is work: the job that comes next by `domain.turns` is taken in the
    place of the named one, which stays queued and gets another wake-up.
    """

    def __init__(
        self, kinds: Sequence[JobKind], patience_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kinds = kinds
        self._patience_seconds = patience_seconds
        self._clock = clock
        self._present: EngineKey | None = None
        self._since = clock()

    def claim(
        self, database: Database, job_id: int | None, worker: str, lease_seconds: float
    ) -> jobs.Job | None:
        """Takes the job that comes next, whichever was named, if any; None where none waits."""
        refused = None
        while True:
            with database.begin() as connection:
                present_seconds = self._clock() - self._since
                waiting = waiting_jobs(connection, self._kinds)
                chosen = next_job(waiting, self._present, present_seconds, self._patience_seconds)
                if chosen is None or chosen.job_id == refused:
                    return None  # what waits is not for this worker: it was asked to stop
                job = jobs.claim(connection, chosen.job_id, worker, lease_seconds)
            if job is not None:
                break
            refused = chosen.job_id  # another worker was quicker, unless it still waits
        if chosen.engine not in (self._present, VERIFIER):
            self._present, self._since = chosen.engine, self._clock()
        if job_id is not None and job_id != job.id:
            with database.begin() as connection:  # of its own: two workers may name each other's jobs
                wakeups.reset_wakeups(connection, [job_id])
        return job
