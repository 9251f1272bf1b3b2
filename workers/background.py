"""What a worker process does beside its jobs: heartbeats, leases, recovery, wake-ups."""

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from celery import Celery
from sqlalchemy import Connection

from hsstar.domain.errors import HsstarError, SchemaError
from hsstar.domain.lifecycle import WorkerExit
from hsstar.store.database import SCHEMA_REVISION
from hsstar.store.queue import jobs, wakeups, workers
from hsstar.workers.messages import send_wake_up

if TYPE_CHECKING:
    from hsstar.workers.runtime import Worker

log = logging.getLogger("hsstar.worker")

_HEARTBEATS_PER_LEASE = 4
_SWEEP_SECONDS = 2.0
_SHORTEST_PAUSE_SECONDS = 0.1


class Background:
    """The threads of a worker process that run all the time: the pulse and the sweeper.

    The pulse reads the worker's control row, extends the leases of its jobs and writes its heartbeat. The
    sweeper reclaims jobs, advances runs, sends wake-ups and polls; it may wait for locks and for the broker.
    """

    def __init__(self, worker: "Worker", app: Celery, watch_broker: Callable[[], None]) -> None:
        self._worker = worker
        self._database = worker.database
        self._app = app
        self._may_poll = False
        self._polling_thread: threading.Thread | None = None
        self._next_expiry = math.inf  # seconds from the last sweep until a lease ends
        self._stopping = threading.Event()
        pulse = (self._beat_pause, self.report)
        sweeper = (self._sweep_pause, self._sweep, self.send_wakeups, self.poll_without_broker, watch_broker)
        self._threads = [
            threading.Thread(target=self._repeat, args=actions, name=name, daemon=True)
            for name, actions in (("pulse", pulse), ("sweeper", sweeper))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def start_polling(self) -> None:
        """Allow jobs without a message from now on: engines may be built."""
        self._may_poll = True

    def stop(self) -> None:
        """Wait until the jobs without a message have ended, then end the threads."""
        if self._polling_thread is not None:
            self._polling_thread.join()  # the pulse extends the lease of its job meanwhile
        self._stopping.set()
        self._database.limits = replace(self._database.limits, patience=0.0)
        for thread in self._threads:
            thread.join(timeout=5)

    def report(self) -> None:
        """Read whether to end, then write the heartbeat: that may wait for a long write of a job."""
        self._check_control()
        self._database.run(self._beat)

    def send_wakeups(self) -> None:
        """Send the wake-ups that are due; if the broker refuses one, it and the rest stay due."""
        due = self._database.run(wakeups.claim_due_wakeups, single=True)
        for position, (job_id, kind) in enumerate(due):
            try:
                send_wake_up(self._app, job_id, kind)
            except Exception as error:  # each transport has its own exceptions
                log.warning("the broker does not accept wake-ups (%s); they are sent again later", error)
                unsent = [job_id for job_id, _ in due[position:]]
                self._database.run(lambda connection: wakeups.reset_wakeups(connection, unsent))  # noqa: B023
                return

    def poll_without_broker(self) -> None:
        """Take jobs without a message if some wait too long: the broker may be away or have lost them."""
        worker = self._worker
        if not self._may_poll or worker.leaving or worker.busy:
            return
        if self._polling_thread is not None and self._polling_thread.is_alive():
            return
        if self._database.run(
            lambda connection: wakeups.has_unserved_jobs(connection, worker.roles), single=True
        ):
            log.info("jobs wait and no message arrives: this worker takes them without one")
            self._polling_thread = threading.Thread(
                target=worker.run_job, args=(None,), name="polling", daemon=True
            )
            self._polling_thread.start()

    def _repeat(self, pause: Callable[[], float], *actions: Callable[[], None]) -> None:
        while not self._stopping.wait(pause()):
            for action in actions:
                guarded(action)

    def _beat_pause(self) -> float:
        return min(_SWEEP_SECONDS, self._worker.settings.lease_seconds / _HEARTBEATS_PER_LEASE)

    def _sweep_pause(self) -> float:
        """Return the seconds until the next lease ends, or until the next beat if that is sooner."""
        return min(self._beat_pause(), max(_SHORTEST_PAUSE_SECONDS, self._next_expiry))

    def _sweep(self) -> None:
        self._next_expiry = math.inf  # also if the sweep fails
        self._next_expiry = self._worker.conductor.sweep()

    def _check_control(self) -> None:
        worker = self._worker
        try:
            control = self._database.run(
                lambda connection: workers.read_control(connection, worker.name), single=True
            )
            if control.schema != SCHEMA_REVISION:
                self._database.check_schema()
        except SchemaError as error:
            if not worker.leaving:
                worker.end(WorkerExit.WRONG_SCHEMA, f"this worker takes no more jobs and ends: {error}")
            return
        if control.stop and not worker.leaving:
            worker.end(WorkerExit.DRAINED, "this worker was asked to stop: it takes no more jobs and ends")

    def _beat(self, connection: Connection) -> None:
        worker = self._worker
        for job in list(worker.held.values()):  # before the worker's row: all lock in this order
            jobs.extend_lease(connection, job, worker.settings.lease_seconds)
        workers.heartbeat(connection, worker.name, busy=worker.busy, jobs_done=worker.jobs_done)


def guarded(action: Callable[[], None]) -> None:
    """Run an action that is repeated anyway; log its failure."""
    try:
        action()
    except HsstarError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("a periodic action failed")
