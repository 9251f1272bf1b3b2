"""One worker process: claims jobs, runs their stages, and keeps its leases alive."""

import logging
import math
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

import psutil
from celery import Celery
from kombu.exceptions import OperationalError
from sqlalchemy import Connection

from hsstar import __version__
from hsstar.conductor import Conductor
from hsstar.domain.errors import (
    DatabaseError,
    DrainedError,
    EngineDeadError,
    EngineMemoryError,
    HsstarError,
    SchemaError,
)
from hsstar.domain.lifecycle import Ending, JobKind
from hsstar.engines.device import gpu_is_lost
from hsstar.local.gpus import find_gpus
from hsstar.settings import Settings
from hsstar.stages import sample, score, train, verify
from hsstar.stages.context import ComputeError, Workshop
from hsstar.store.database import SCHEMA_REVISION, Database
from hsstar.store.queue import jobs, wakeups, workers
from hsstar.store.queue.jobs import Job
from hsstar.workers.app import send_wake_up
from hsstar.workers.engine_schedule import Turns

log = logging.getLogger("hsstar.worker")

_HEARTBEATS_PER_LEASE = 4
_SWEEP_SECONDS = 2.0
_SHORTEST_PAUSE_SECONDS = 0.1
_SHIFT_SECONDS = 60.0
"""How long jobs are taken without the broker; RabbitMQ gives a message up that waits for half an hour."""

Stage = Callable[[Workshop, Job], list[int]]

STAGES: dict[JobKind, Stage] = {
    JobKind.SAMPLE: sample.run,
    JobKind.VERIFY: verify.run,
    JobKind.SCORE: score.run,
    JobKind.TRAIN: train.run,
}
"""A stage writes its results, under the job's lease, and the end of the job; it returns the problem ids."""


class Worker:
    """What a worker process does with a job id, and what it does all the time.

    Several threads may run jobs. Another one, the pulse, reports for duty, extends the leases of the jobs
    in hand, and learns whether to go on. One more, the sweeper, takes work back from dead workers, advances
    runs, and sends wake-ups that are due; it may have to wait for locks and for the broker.

    Attributes:
        ending: why it ends, once it does.
    """

    def __init__(
        self,
        name: str,
        roles: list[JobKind],
        settings: Settings,
        workshop: Workshop,
        app: Celery,
        look_around: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.ending = Ending.STOPPED
        self._roles = roles
        self._settings = settings
        self._workshop = workshop
        self._database: Database = workshop.database
        self._app = app
        self._conductor = Conductor(self._database, settings.job_samples, settings.max_attempts)
        one_engine = workshop.engines.one_at_a_time and len({*roles} - {JobKind.VERIFY}) > 1
        self._turns = Turns(roles, settings.swap_seconds) if one_engine else None
        self._held: dict[int, jobs.Job] = {}
        self._counting = threading.Lock()
        self._places = threading.BoundedSemaphore(self.jobs_at_once)
        self._own_shift: threading.Thread | None = None
        self._ready = False
        self._jobs_done = 0
        self._shifts = 0  # calls of run_job under way
        self._next_expiry = math.inf  # seconds from the last sweep until a lease ends
        self._leaving = False
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=actions, name=name, daemon=True)
            for name, actions in (
                ("pulse", (self._beat_pause, self._report)),
                (
                    "sweeper",
                    (self._sweep_pause, self._sweep, self._announce, self._help, look_around),
                ),
            )
        ]

    def start(self) -> None:
        """Reports for duty; what an earlier process of this name held goes back into the queue.

        Raises:
            ConflictError: another worker of this name is at work.
            DrainedError: one was asked to stop and has ended in the middle of it.
        """
        host = socket.gethostname()
        roles = ",".join(role.value for role in self._roles)
        gpus = () if self._roles == [JobKind.VERIFY] else find_gpus(os.environ)
        with self._database.begin() as connection:
            workers.refuse_double(connection, self.name, host, _is_another_process)
            jobs.take_back(connection, self.name, self._settings.max_attempts)
            drained = workers.is_draining(connection, self.name)
            if drained:
                workers.sign_off(connection, self.name)
            else:
                workers.enlist(
                    connection, self.name, host, os.getpid(), roles, ",".join(gpus) or None, __version__
                )
        if drained:
            raise DrainedError(f"{self.name} was asked to stop; it can be started again from now on")
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Hands back what is still in hand, signs off and frees the engines."""
        self.leave()
        if self._own_shift is not None:
            self._own_shift.join()  # the pulse keeps its lease meanwhile
        self._stopping.set()
        self._database.limits = replace(self._database.limits, patience=0.0)
        for thread in self._threads:
            thread.join(timeout=5)
        try:
            self._database.run(self._sign_off)
        except DatabaseError as error:
            log.warning("could not sign off: %s", error)
        self._guarded(self._workshop.engines.close)
        self._database.close()

    def _sign_off(self, connection: Connection) -> None:
        for job in list(self._held.values()):
            jobs.hand_back(connection, job)
        workers.sign_off(connection, self.name)

    @property
    def jobs_at_once(self) -> int:
        """How many jobs it takes at once: several only where all of them share the sampler."""
        return self._settings.jobs_in_flight if self._roles == [JobKind.SAMPLE] else 1

    @property
    def leaving(self) -> bool:
        """Whether it takes no other job, because it was told so or has to."""
        return self._leaving

    def leave(self) -> None:
        """Takes no other job; those in hand go on."""
        self._leaving = True

    def run_message(self, job_id: object = None, *_: object, **__: object) -> None:
        """Runs the job that a message names. Messages are not trusted: all but the id of a job is ignored."""
        if type(job_id) is not int or not 0 < job_id < 1 << 63:
            log.warning("a message that names no job was ignored")
            return
        self.run_job(job_id)

    def ready(self) -> None:
        """Says that engines may be built from now on."""
        self._ready = True

    def run_job(self, job_id: int | None) -> None:
        """Runs a job, if it is there to be taken, and then the next ones, without waiting for their messages.

        It ends when none is left, after a failure (another worker may fare better), and after a while, to
        hear the broker again. Never raises: what goes wrong is in the rows.
        """
        with self._places:
            end = time.monotonic() + _SHIFT_SECONDS
            with self._counting:
                self._shifts += 1
            try:
                job = None if self._leaving else self._claim(job_id)
                while job is not None:
                    job = self._run_and_take(job, end)
            except DatabaseError as error:
                log.warning("no job is taken: %s", error)
            finally:
                with self._counting:
                    self._shifts -= 1

    def _help(self) -> None:
        """Begins a shift without a message, where jobs wait and none comes: the broker may have lost them,
        or be away, or have lost this worker.
        """
        if not self._ready or self._leaving or self._shifts >= self.jobs_at_once:
            return
        if self._own_shift is not None and self._own_shift.is_alive():
            return
        if self._database.run(
            lambda connection: wakeups.has_unserved_jobs(connection, self._roles), single=True
        ):
            log.info("jobs wait, and no message has come: they are taken without one")
            self._own_shift = threading.Thread(
                target=self.run_job, args=(None,), name="own-shift", daemon=True
            )
            self._own_shift.start()

    def _run_and_take(self, job: jobs.Job, end: float) -> jobs.Job | None:
        """Runs a job that was taken, then takes the next one; None where the shift is over."""
        problem_ids = self._run(job)
        if problem_ids is None:
            return None
        following = None if self._leaving or time.monotonic() > end else self._claim(None)
        self._guarded(lambda: self._follow_up(job, problem_ids, following))
        return following

    def _follow_up(self, job: jobs.Job, problem_ids: list[int], following: jobs.Job | None) -> None:
        if self._conductor.after_job(job, problem_ids, following):
            self._announce()

    def _claim(self, named: int | None) -> jobs.Job | None:
        """Takes the named job, or else the next one."""
        if self._turns is not None:
            job = self._turns.claim(self._database, named, self.name, self._settings.lease_seconds)
        else:
            job = self._claim_any(named)
        if job is not None:
            self._held[job.id] = job
        return job

    def _claim_any(self, named: int | None) -> jobs.Job | None:
        lease = self._settings.lease_seconds

        if named is not None:
            job = self._database.run(lambda connection: jobs.claim(connection, named, self.name, lease))
            if job is not None:
                return job
        return self._database.run(
            lambda connection: jobs.claim_next(connection, self._roles, self.name, lease), single=True
        )

    def _run(self, job: jobs.Job) -> list[int] | None:
        """Runs a job that was taken; the ids of its problems, None where it is not done."""
        log.info("job %d (%s), attempt %d", job.id, job.kind, job.attempts)
        try:
            return self._attempt(job)
        except DatabaseError as error:
            log.warning("job %d will be taken back when its lease expires: %s", job.id, error)
            return None
        finally:
            self._held.pop(job.id, None)

    def _attempt(self, job: jobs.Job) -> list[int] | None:
        try:
            problem_ids = STAGES[job.kind](self._workshop, job)
        except jobs.LeaseLostError as error:
            log.warning("%s", error)
        except DatabaseError:
            raise
        except Exception as error:
            self._record_failure(job, error)
            self._guarded(self._announce)
            if gpu_is_lost():
                self._end(
                    Ending.FAILED,
                    "this process could not use its GPU any more and has ended; "
                    "its supervisor starts another one",
                )
        else:
            with self._counting:
                self._jobs_done += 1
            return problem_ids
        return None

    def _record_failure(self, job: jobs.Job, error: Exception) -> None:
        line = str(error) if isinstance(error, HsstarError) else f"{type(error).__name__}: {error}"
        line = " ".join(line.split())
        log.error("job %d failed: %s", job.id, line)
        trace = "".join(traceback.format_exception(error))
        self._database.run(lambda connection: self._end_attempt(connection, job, error, line, trace))

    def _end_attempt(
        self, connection: Connection, job: jobs.Job, error: Exception, line: str, trace: str
    ) -> None:
        """Puts the job back, whole or in parts, or ends it; the job's row is locked before the worker's."""
        too_much = isinstance(error, EngineMemoryError)
        if not (too_much and jobs.split(connection, job, line, trace)):
            divisible = isinstance(error, ComputeError | EngineDeadError)
            jobs.record_failure(
                connection, job, line, trace, self._settings.max_attempts, divisible=divisible
            )
        if isinstance(error, EngineMemoryError | EngineDeadError):
            workers.leave_note(connection, self.name, f"job {job.id}: {line}")

    def _end(self, ending: Ending, note: str) -> None:
        """Takes no other job and ends this process as SIGTERM does, when the jobs in hand are done."""
        self.leave()
        self.ending = ending
        log.error("%s", note)
        try:
            self._database.run(lambda connection: workers.leave_note(connection, self.name, note))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    def _repeat(self, pause: Callable[[], float], *actions: Callable[[], None]) -> None:
        while not self._stopping.wait(pause()):
            for action in actions:
                self._guarded(action)

    def _beat_pause(self) -> float:
        return min(_SWEEP_SECONDS, self._settings.lease_seconds / _HEARTBEATS_PER_LEASE)

    def _sweep_pause(self) -> float:
        """Until the next lease ends, if that is sooner than the next beat."""
        return min(self._beat_pause(), max(_SHORTEST_PAUSE_SECONDS, self._next_expiry))

    def _sweep(self) -> None:
        self._next_expiry = math.inf  # also where the sweep fails
        self._next_expiry = self._conductor.sweep()

    def _report(self) -> None:
        self._obey()
        self._database.run(self._beat)

    def _obey(self) -> None:
        """Learns whether to go on, before the heartbeat, which may have to wait for a long write of a job."""
        try:
            orders = self._database.run(
                lambda connection: workers.read_orders(connection, self.name), single=True
            )
            if orders.schema != SCHEMA_REVISION:
                self._database.check_schema()
        except SchemaError as error:
            if not self._leaving:
                self._end(Ending.WRONG_SCHEMA, f"this worker takes no more jobs and ends: {error}")
            return
        if orders.stop and not self._leaving:
            self._end(Ending.DRAINED, "this worker was asked to stop: it takes no more jobs and ends")

    def _beat(self, connection: Connection) -> None:
        held = list(self._held.values())
        for job in held:  # before the worker's own row: whoever writes results locks them in this order
            jobs.extend_lease(connection, job, self._settings.lease_seconds)
        busy = self._shifts >= self.jobs_at_once
        workers.heartbeat(connection, self.name, busy=busy, jobs_done=self._jobs_done)

    def _announce(self) -> None:
        due = self._database.run(wakeups.claim_due_wakeups, single=True)
        for place, (job_id, kind) in enumerate(due):
            try:
                send_wake_up(self._app, job_id, kind)
            except (OperationalError, OSError) as error:
                log.warning("the broker does not take wake-ups (%s); they are sent again later", error)
                left = [job_id for job_id, _ in due[place:]]
                self._database.run(lambda connection: wakeups.reset_wakeups(connection, left))  # noqa: B023
                return

    @staticmethod
    def _guarded(action: Callable[[], None]) -> None:
        """Runs a periodic action; a failure is logged, and the next round tries again."""
        try:
            action()
        except HsstarError as error:
            log.warning("%s", error)
        except Exception:
            log.exception("a periodic action failed")


def _is_another_process(process: int) -> bool:
    """Whether this process id is another living process; in a container the next worker may have the same."""
    return process != os.getpid() and psutil.pid_exists(process)
