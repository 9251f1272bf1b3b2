"""What a worker process does beside its jobs: heartbeats, leases, recovery, wake-ups."""

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from celery import Celery

from hsstar.domain.errors import HsstarError, SchemaError
from hsstar.domain.lifecycle import WorkerExit
from hsstar.monitoring import webhook
from hsstar.store.database import SCHEMA_REVISION
from hsstar.store.queue import wakeups, workers
from hsstar.store.queue.workers import Orders, Work
from hsstar.workers.messages import send_wake_up

if TYPE_CHECKING:
    from hsstar.workers.runtime import Worker

log = logging.getLogger("hsstar.worker")

_HEARTBEATS_PER_LEASE = 4
_SWEEPER_BEAT_SECONDS = 1.0
_SWEEP_SECONDS = 0.5
_NOTIFY_SECONDS = 2.0
_STUCK_SECONDS = 30.0
"""A sweeper that has not ended a sweep for so long leaves its place to another worker."""
_TIDY_SECONDS = 3_600.0


class Background:
    """The threads of a worker process that run all the time: the pulse, the sweeper and the notifier.

    The pulse writes the heartbeat, which extends the leases of the worker's jobs and brings its orders. The
    sweeper polls; in one worker of all it also reclaims jobs, advances runs and sends wake-ups. There the
    notifier calls webhooks, which may answer slowly.
    """

    def __init__(self, worker: "Worker", app: Celery, watch_broker: Callable[[], None]) -> None:
        self._worker = worker
        self._database = worker.database
        self._app = app
        self._may_poll = False
        self._polling_thread: threading.Thread | None = None
        self._orders: Orders | None = None
        self._last_sweep = self._last_beat = time.monotonic()
        self._last_tidying = -math.inf
        self._stopping = threading.Event()
        pulse = (self._beat_pause, self.report)
        notifier = (lambda: _NOTIFY_SECONDS, self.notify)
        sweeper = (lambda: _SWEEP_SECONDS, self.sweep, self.poll_without_broker, watch_broker)
        self._threads = [
            threading.Thread(target=self._repeat, args=actions, name=name, daemon=True)
            for name, actions in (("pulse", pulse), ("sweeper", sweeper), ("notifier", notifier))
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
            if thread.is_alive():
                thread.join(timeout=5)

    def report(self) -> None:
        """Write the heartbeat and follow the orders that it brings."""
        worker = self._worker
        worker.end_if_stalled(self._frozen_seconds())
        held = list(worker.held.values())
        stuck = time.monotonic() - self._last_sweep > _STUCK_SECONDS
        work = Work(
            busy=worker.busy,
            jobs_done=worker.jobs_done,
            tokens_done=worker.tokens_done,
            jobs=held,
            still=[worker.still_seconds(job) for job in held],
            takes=worker.roles if self._may_take() else (),
            may_sweep=not (stuck or worker.leaving),
        )
        lease = worker.settings.lease_seconds
        orders = self._database.run(
            lambda connection: workers.beat(connection, worker.identity, work, lease), single=True
        )
        self._orders = orders
        if not worker.leaving:
            self._follow(orders)

    def _frozen_seconds(self) -> float:
        """Return for how long this process stood still or waited since the last heartbeat."""
        before, self._last_beat = self._last_beat, time.monotonic()
        late = self._last_beat - before - self._beat_pause()
        return late if late > self._beat_pause() else 0.0

    def _follow(self, orders: Orders) -> None:
        worker = self._worker
        if orders.schema != SCHEMA_REVISION:
            try:
                self._database.check_schema()
            except SchemaError as error:
                worker.end(WorkerExit.WRONG_SCHEMA, f"this worker takes no more jobs and ends: {error}")
        elif orders.stop is None:
            worker.end(WorkerExit.FAILED, f"another worker has the name {worker.name} by now; this one ends")
        elif orders.stop:
            worker.end(WorkerExit.DRAINED, "this worker was asked to stop: it takes no more jobs and ends")

    def sweep(self) -> None:
        """Look after all jobs, if this worker is the one that does."""
        try:
            if self._orders is not None and self._orders.sweeps:
                self._worker.conductor.sweep()
                self.send_wakeups()
                self._tidy()
        finally:
            self._last_sweep = time.monotonic()

    def notify(self) -> None:
        """Tell webhooks what is due, if this worker looks after all jobs."""
        if self._orders is not None and self._orders.sweeps:
            webhook.send_due(self._database)

    def _tidy(self) -> None:
        if time.monotonic() - self._last_tidying > _TIDY_SECONDS:
            self._last_tidying = time.monotonic()
            self._database.run(workers.forget_old)

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
        if self._orders is None or not self._orders.unserved or not self._may_take():
            return
        self._orders = replace(self._orders, unserved=False)
        log.info("jobs wait and no message arrives: this worker takes them without one")
        self._polling_thread = threading.Thread(
            target=self._worker.run_job, args=(None,), name="polling", daemon=True
        )
        self._polling_thread.start()

    def _may_take(self) -> bool:
        """Whether it may take a job without a message now."""
        polls = self._polling_thread is not None and self._polling_thread.is_alive()
        return self._may_poll and not (self._worker.leaving or self._worker.busy or polls)

    def _repeat(self, pause: Callable[[], float], *actions: Callable[[], None]) -> None:
        while not self._stopping.wait(pause()):
            for action in actions:
                guarded(action)

    def _beat_pause(self) -> float:
        orders = self._orders
        sweeps = orders is not None and orders.sweeps
        longest = _SWEEPER_BEAT_SECONDS if sweeps else workers.beat_seconds(orders.workers if orders else 0)
        return min(longest, self._worker.settings.lease_seconds / _HEARTBEATS_PER_LEASE)


def guarded(action: Callable[[], None]) -> None:
    """Run an action that is repeated anyway; log its failure."""
    try:
        action()
    except HsstarError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("a periodic action failed")
