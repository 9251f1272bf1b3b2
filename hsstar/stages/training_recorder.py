"""Writes the events of a training into the database as they happen."""

import logging
import time

from sqlalchemy import Connection

from hsstar.domain.errors import DatabaseError
from hsstar.engines.training.contract import TrainingEvent, TrainingSaved, TrainingStart, TrainingStep
from hsstar.stages.progress import Progress
from hsstar.store import training
from hsstar.store.database import Database
from hsstar.store.queue import jobs

log = logging.getLogger("hsstar.training")

_WRITE_EVERY_SECONDS = 1.0


class TrainingRecorder:
    """Records the events of one attempt; steps are written at most once a second, and at the end.

    Every write demands the job's lease, so an attempt without it ends with its next event. While the
    database cannot be reached, the training continues, and its events are written later.
    """

    def __init__(self, database: Database, job: jobs.Job, training_run_id: int, progress: Progress) -> None:
        self._database = database
        self._job = job
        self._id = training_run_id
        self._progress = progress
        self._pending: list[TrainingEvent] = []
        self._written = time.monotonic()

    def __call__(self, event: TrainingEvent) -> None:
        """Record an event; raise LeaseLostError if another attempt has the job."""
        self._progress.moved(self._job.id)
        self._pending.append(event)
        recent = time.monotonic() - self._written < _WRITE_EVERY_SECONDS
        if isinstance(event, TrainingStep) and event.step < event.steps and recent:
            return
        try:
            with self._database.begin() as connection:
                jobs.fence(connection, self._job)
                self.write(connection)
        except DatabaseError as error:
            log.warning("job %d: its training continues unrecorded for now: %s", self._job.id, error)
        else:
            self._pending.clear()
        self._written = time.monotonic()

    def write(self, connection: Connection) -> None:
        """Write the pending events, in a transaction that holds the job."""
        for event in self._pending:
            match event:
                case TrainingStart():
                    self._start(connection, event)
                case TrainingStep():
                    training.report_step(connection, self._id, event.step, event.steps, event.metrics)
                case TrainingSaved():
                    jobs.reset_attempts(connection, self._job)
                    training.note(connection, self._id, f"intermediate checkpoint at step {event.step}")

    def _start(self, connection: Connection, event: TrainingStart) -> None:
        training.report_start(
            connection,
            self._id,
            steps=event.steps,
            resumed_at=event.resumed_at,
            truncated=event.truncated,
            left_out=sum(event.left_out.values()),
            lengths=event.lengths,
        )
        begins = f"resumes from step {event.resumed_at}" if event.resumed_at else "begins"
        training.note(
            connection,
            self._id,
            f"attempt {self._job.attempts} on {self._job.worker} {begins} of {event.steps} steps, "
            f"{event.examples} examples, {event.truncated} of them cut, {event.describe_left_out()}",
        )
