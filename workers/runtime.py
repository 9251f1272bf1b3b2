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

import psutil
from celery import Celery
from kombu.exceptions import OperationalError

from hsstar.conductor import Conductor
from hsstar.domain.errors import DatabaseError, EngineDeadError, EngineMemoryError, HsstarError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.device_health import gpu_is_lost
from hsstar.settings import Settings
from hsstar.stages.context import ComputeError, Workshop
from hsstar.stages.table import STAGES
from hsstar.store import jobs, workers
from hsstar.store.database import Database
from workers.app import send_wake_up
from workers.turns import Turns

log = logging.getLogger("hsstar.worker")

_HEARTBEATS_PER_LEASE = 4
_SWEEP_SECONDS = 2.0
_SHORTEST_PAUSE_SECONDS = 0.1
_SHIFT_SECONDS = 60.0
"""How long jobs are taken without the broker; RabbitMQ gives a message up that waits for half an hour."""


class Worker:
    """What a worker process does with a job id, and what it does all the time.

    Several threads may run jobs. Another one, the pulse, extends the leases of the jobs in hand, reports
    for duty, and sweeps: it takes work back from dead workers, advances runs, and sends wake-ups that are
    due.
    """

    def __init__(
        self, name: str, roles: list[JobKind], settings: Settings, workshop: Workshop, app: Celery
    ) -> None:
        self.name = name
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
        self._jobs_done = 0
        self._shifts = 0  # calls of run_job under way
        self._next_expiry = math.inf  # seconds from the last sweep until a lease ends
        self._leaving = False
        self._stopping = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="pulse", daemon=True)

    def start(self) -> None:
        """Reports for duty; what an earlier process of this name held goes back into the queue."""
        host = socket.gethostname()
        roles = ",".join(role.value for role in self._roles)
        with self._database.begin() as connection:
            workers.refuse_double(connection, self.name, host, psutil.pid_exists)
            jobs.take_back(connection, self.name, self._settings.max_attempts)
            workers.enlist(connection, self.name, host, os.getpid(), roles)
        self._pulse.start()

    def stop(self) -> None:
        """Hands back what is still in hand, signs off and frees the engines."""
        self._stopping.set()
        self._pulse.join(timeout=5)
        try:
            with self._database.begin() as connection:
                for job in list(self._held.values()):
                    jobs.hand_back(connection, job)
                workers.sign_off(connection, self.name)
        except DatabaseError as error:
            log.warning("could not sign off: %s", error)
        self._guarded(self._workshop.engines.close)
        self._database.close()

    @property
    def jobs_at_once(self) -> int:
        """How many jobs it takes at once: several only where all of them share the sampler."""
        return self._settings.jobs_in_flight if self._roles == [JobKind.SAMPLE] else 1

    def leave(self) -> None:
        """Takes no other job; those in hand go on."""
        self._leaving = True

    def run_job(self, job_id: int) -> None:
        """Runs a job, if it is there to be taken, and then the next ones, without waiting for their messages.

        It ends when none is left, after a failure (another worker may fare better), and after a while, to
        hear the broker again. Never raises: what goes wrong is in the rows.
        """
        named: int | None = job_id
        end = time.monotonic() + _SHIFT_SECONDS
        with self._counting:
            self._shifts += 1
        try:
            while not self._leaving and time.monotonic() < end:
                job = self._claim(named)
                if job is None or not self._run(job):
                    break
                named = None
        except DatabaseError as error:
            log.warning("no job is taken (wake-up for job %d): %s", job_id, error)
        finally:
            with self._counting:
                self._shifts -= 1

    def _claim(self, named: int | None) -> jobs.Job | None:
        """Takes the named job, or else the next one."""
        lease = self._settings.lease_seconds
        if self._turns is not None:
            return self._turns.claim(self._database, named, self.name, lease)
        with self._database.begin() as connection:
            job = None if named is None else jobs.claim(connection, named, self.name, lease)
            return job or jobs.claim_next(connection, self._roles, self.name, lease)

    def _run(self, job: jobs.Job) -> bool:
        """Runs a job that was taken; whether it is done."""
        log.info("job %d (%s), attempt %d", job.id, job.kind, job.attempts)
        self._held[job.id] = job
        try:
            return self._attempt(job)
        except DatabaseError as error:
            log.warning("job %d will be taken back when its lease expires: %s", job.id, error)
            return False
        finally:
            self._held.pop(job.id, None)

    def _attempt(self, job: jobs.Job) -> bool:
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
                self._end()
        else:
            with self._counting:
                self._jobs_done += 1
            if self._conductor.after_job(job, problem_ids):
                self._guarded(self._announce)
            return True
        return False

    def _record_failure(self, job: jobs.Job, error: Exception) -> None:
        line = str(error) if isinstance(error, HsstarError) else f"{type(error).__name__}: {error}"
        line = " ".join(line.split())
        log.error("job %d failed: %s", job.id, line)
        trace = "".join(traceback.format_exception(error))
        with self._database.begin() as connection:
            if isinstance(error, EngineMemoryError | EngineDeadError):
                workers.leave_note(connection, self.name, f"job {job.id}: {line}")
            if isinstance(error, EngineMemoryError) and jobs.split(connection, job, line, trace):
                return
            jobs.record_failure(
                connection,
                job,
                line,
                trace,
                self._settings.max_attempts,
                divisible=isinstance(error, ComputeError | EngineDeadError),
            )

    def _end(self) -> None:
        """Ends this process as SIGTERM does, since only a new one can use the GPU again."""
        self.leave()
        note = "this process could not use its GPU any more and has ended; its supervisor starts another one"
        log.error(note)
        with self._database.begin() as connection:
            workers.leave_note(connection, self.name, note)
        os.kill(os.getpid(), signal.SIGTERM)

    def _beat(self) -> None:
        longest = min(_SWEEP_SECONDS, self._settings.lease_seconds / _HEARTBEATS_PER_LEASE)
        while not self._stopping.wait(min(longest, max(_SHORTEST_PAUSE_SECONDS, self._next_expiry))):
            self._guarded(self._report)
            self._guarded(self._sweep)
            self._guarded(self._announce)

    def _sweep(self) -> None:
        self._next_expiry = math.inf  # also where the sweep fails
        self._next_expiry = self._conductor.sweep()

    def _report(self) -> None:
        held = list(self._held.values())
        with self._database.begin() as connection:
            workers.heartbeat(
                connection, self.name, busy=self._shifts >= self.jobs_at_once, jobs_done=self._jobs_done
            )
            for job in held:
                jobs.extend_lease(connection, job, self._settings.lease_seconds)

    def _announce(self) -> None:
        with self._database.begin() as connection:
            due = jobs.take_announcements(connection)
        for place, (job_id, kind) in enumerate(due):
            try:
                send_wake_up(self._app, job_id, kind)
            except (OperationalError, OSError) as error:
                log.warning("the broker does not take wake-ups (%s); they are sent again later", error)
                with self._database.begin() as connection:
                    jobs.unannounce(connection, [left for left, _ in due[place:]])
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
