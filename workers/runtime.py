"""One worker process: claims jobs, runs their stages, records how they end."""

import logging
import os
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psutil
from celery import Celery
from sqlalchemy import Connection

from hsstar import __version__
from hsstar.conductor import Conductor
from hsstar.domain.errors import (
    DatabaseError,
    DrainedError,
    EngineDeadError,
    EngineMemoryError,
    HsstarError,
    RefusedRowError,
)
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.engines.device import gpu_is_lost
from hsstar.local.gpus import find_gpus
from hsstar.local.holders import Holder
from hsstar.settings import Settings
from hsstar.stages import sample, score, train, verify
from hsstar.stages.context import ComputeError, WorkerContext
from hsstar.store.queue import jobs, sweeper, workers
from hsstar.store.queue.jobs import Job
from hsstar.store.queue.workers import Identity
from hsstar.workers.background import Background, guarded
from hsstar.workers.engine_schedule import EngineScheduler
from hsstar.workers.tracing import SetAttribute, make_tracing

log = logging.getLogger("hsstar.worker")

_SECONDS_PER_MESSAGE = 60.0
"""How long one message makes a worker take jobs; RabbitMQ drops a message that waits for half an hour."""

Stage = Callable[[WorkerContext, Job], list[int]]

STAGES: dict[JobKind, Stage] = {
    JobKind.SAMPLE: sample.run,
    JobKind.VERIFY: verify.run,
    JobKind.SCORE: score.run,
    JobKind.TRAIN: train.run,
}
"""A stage writes its results, under the job's lease, and the end of the job; it returns the problem ids."""


class Worker:
    """Runs jobs (`held` by id), in threads where they share the sampler; takes no other once `leaving`."""

    def __init__(
        self,
        name: str,
        roles: list[JobKind],
        settings: Settings,
        context: WorkerContext,
        app: Celery,
        watch_broker: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.roles = roles
        self.settings = settings
        self.database = context.database
        self.exit_code = WorkerExit.STOPPED
        self.identity = Identity(
            name, uuid.uuid4(), socket.gethostname(), os.getpid(), Holder.now().process_space
        )
        self.held: dict[int, Job] = {}
        self.jobs_done = 0
        self.leaving = False
        self._tracing = make_tracing(self.database, name)
        self._context = replace(context, span=self._tracing.part)
        self.conductor = Conductor(self.database, settings, self._tracing.part)
        one_engine = context.engines.one_at_a_time and len({*roles} - {JobKind.VERIFY}) > 1
        self._scheduler = EngineScheduler(roles, settings.swap_seconds) if one_engine else None
        self._counting = threading.Lock()
        self._free_slots = threading.BoundedSemaphore(self.jobs_at_once)
        self._active_slots = 0  # calls of run_job under way
        self.background = Background(self, app, watch_broker)

    def start(self) -> None:
        """Register; what an earlier process of this name held returns to the queue.

        Raise ConflictError if another worker of this name is at work, DrainedError if an earlier one was
        asked to stop and ended before it could.
        """
        workers.wait_for_name(self.database, self.name, self.identity.process_space, _is_another_process)
        roles = ",".join(role.value for role in self.roles)
        gpus = () if self.roles == [JobKind.VERIFY] else find_gpus(os.environ)
        with self.database.begin() as connection:
            jobs.reclaim_of(connection, self.name, self.settings.max_attempts)
            drained = workers.is_draining(connection, self.name)
            workers.register(connection, self.identity, roles, ",".join(gpus) or None, __version__)
            if drained:
                workers.deregister(connection, self.name)
        if drained:
            raise DrainedError(f"{self.name} was asked to stop; it can be started again from now on")
        self.background.start()

    def stop(self) -> None:
        """Release the held jobs, deregister and close the engines."""
        self.leave()
        self.background.stop()
        try:
            self.database.run(self._deregister)
        except DatabaseError as error:
            log.warning("could not deregister: %s", error)
        guarded(self._context.engines.close)
        guarded(self._tracing.close)
        self.database.close()

    def _deregister(self, connection: Connection) -> None:
        for job in list(self.held.values()):
            jobs.release(connection, job)
        workers.deregister(connection, self.name, self.identity.instance)
        sweeper.leave(connection, self.identity.instance)

    @property
    def tokens_done(self) -> int:
        """How many tokens its samples have so far."""
        return self._context.progress.tokens

    def still_seconds(self, job: Job) -> float:
        """Return for how long a job has got no further."""
        return self._context.progress.still_seconds(job.id)

    def end_if_stalled(self, frozen_seconds: float = 0.0) -> None:
        """End this process at once if one of its jobs hangs: nothing else ends the thread that runs it.

        The time that the process itself stood still does not count.
        """
        self._context.progress.excuse(frozen_seconds)
        stalled = {
            job.id: seconds
            for job in list(self.held.values())
            if (seconds := self.still_seconds(job)) > self.settings.stall_limit(job.kind)
        }
        if stalled:
            try:
                self.database.run(partial(self._give_up, stalled))
            finally:
                os._exit(WorkerExit.FAILED)

    def _give_up(self, stalled: dict[int, float], connection: Connection) -> None:
        for job in list(self.held.values()):
            if job.id in stalled:
                line = f"no progress for {stalled[job.id]:.0f} s; see HSSTAR_STALL_SECONDS"
                log.error("job %d: %s; this process ends", job.id, line)
                attempts = self.settings.max_attempts
                jobs.record_failure(connection, job, line, "", attempts, divisible=True)
                workers.set_note(connection, self.name, f"job {job.id}: {line}")
            else:
                jobs.release(connection, job)

    @property
    def jobs_at_once(self) -> int:
        """How many jobs it runs at once: several only if all of them share the sampler."""
        return self.settings.jobs_in_flight if self.roles == [JobKind.SAMPLE] else 1

    @property
    def busy(self) -> bool:
        """Whether it has as many jobs as it runs at once."""
        return self._active_slots >= self.jobs_at_once

    def leave(self) -> None:
        """Take no other job; the held ones continue."""
        self.leaving = True

    def end(self, code: WorkerExit, note: str) -> None:
        """Take no other job and end this process as SIGTERM does, after the held jobs."""
        self.leave()
        self.exit_code = code
        log.error("%s", note)
        try:
            self.database.run(lambda connection: workers.set_note(connection, self.name, note))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def run_job(self, job_id: int | None) -> None:
        """Run a job if it is queued (None: any), then the next ones without waiting for their messages.

        Ends if none is left, after a failure (another worker may succeed), and after a while, to read from
        the broker again. Never raises: the rows say what went wrong.
        """
        with self._free_slots:
            deadline = time.monotonic() + _SECONDS_PER_MESSAGE
            with self._counting:
                self._active_slots += 1
            try:
                job = None if self.leaving else self._claim(job_id)
                while job is not None:
                    job = self._run_and_claim_next(job, deadline)
            except DatabaseError as error:
                log.warning("no job is claimed: %s", error)
            finally:
                with self._counting:
                    self._active_slots -= 1

    def _run_and_claim_next(self, job: Job, deadline: float) -> Job | None:
        problem_ids = self._run(job)
        if problem_ids is None:
            return None
        following = None if self.leaving or time.monotonic() > deadline else self._claim(None)
        guarded(lambda: self._follow_up(job, problem_ids, following))
        return following

    def _follow_up(self, job: Job, problem_ids: list[int], following: Job | None) -> None:
        with self._tracing.part(f"after job {job.kind}", job=job.id):
            if self.conductor.after_job(job, problem_ids, following):
                self.background.send_wakeups()

    def _claim(self, named: int | None) -> Job | None:
        lease = self.settings.lease_seconds
        job = None
        if self._scheduler is not None:
            job = self._scheduler.claim(self.database, named, self.name, lease)
        else:
            if named is not None:
                job = self.database.run(lambda connection: jobs.claim(connection, named, self.name, lease))
            if job is None:
                job = self.database.run(
                    lambda connection: jobs.claim(connection, None, self.name, lease, self.roles), single=True
                )
        if job is not None:
            self._context.progress.moved(job.id)
            self.held[job.id] = job
        return job

    def _run(self, job: Job) -> list[int] | None:
        log.info("job %d (%s), attempt %d", job.id, job.kind, job.attempts)
        try:
            with self._tracing.span(job) as set_attribute:
                return self._attempt(job, set_attribute)
        except DatabaseError as error:
            log.warning("job %d returns to the queue when its lease expires: %s", job.id, error)
            return None
        finally:
            self.held.pop(job.id, None)
            self._context.progress.ended(job.id)

    def _attempt(self, job: Job, set_attribute: SetAttribute) -> list[int] | None:
        try:
            problem_ids = STAGES[job.kind](self._context, job)
        except jobs.LeaseLostError as error:
            log.warning("%s", error)
            set_attribute("error", str(error))
        except Exception as error:
            if isinstance(error, DatabaseError) and not isinstance(error, RefusedRowError):
                raise
            set_attribute("error", self._record_failure(job, error))
            guarded(self.background.send_wakeups)
            if gpu_is_lost():
                self.end(
                    WorkerExit.FAILED,
                    "this process could not use its GPU any more and has ended; "
                    "its supervisor starts another one",
                )
        else:
            with self._counting:
                self.jobs_done += 1
            set_attribute("problems", len(problem_ids))
            return problem_ids
        return None

    def _record_failure(self, job: Job, error: Exception) -> str:
        """Record a failure; return it in a line."""
        line = str(error) if isinstance(error, HsstarError) else f"{type(error).__name__}: {error}"
        line = " ".join(line.split())
        log.error("job %d failed: %s", job.id, line)
        trace = "".join(traceback.format_exception(error))
        self.database.run(lambda connection: self._end_attempt(connection, job, error, line, trace))
        return line

    def _end_attempt(self, connection: Connection, job: Job, error: Exception, line: str, trace: str) -> None:
        """Queue the job again, whole or split, or fail it; locks the job's row before the worker's."""
        too_much = isinstance(error, EngineMemoryError)
        if not (too_much and jobs.split(connection, job, line, trace)):
            divisible = isinstance(error, ComputeError | EngineDeadError | RefusedRowError)
            jobs.record_failure(connection, job, line, trace, self.settings.max_attempts, divisible=divisible)
        if isinstance(error, EngineMemoryError | EngineDeadError):
            workers.set_note(connection, self.name, f"job {job.id}: {line}")


def _is_another_process(process: int) -> bool:
    """Tell whether this pid is another living process; in a container the next worker may have the same."""
    return process != os.getpid() and psutil.pid_exists(process)
