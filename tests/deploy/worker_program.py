"""`hsstar worker` for a test: the real worker, whose verifications end when TEST_JOB says so, and do nothing.

`until told`: when the worker is asked to end. `for ever`: never.
"""

import os
import sys
import threading

from celery.signals import worker_shutting_down

from hsstar.domain.lifecycle import JobKind
from hsstar.stages.context import WorkerContext
from hsstar.store.queue import jobs
from hsstar.workers import __main__ as program
from hsstar.workers.runtime import STAGES

told = threading.Event()


def stage(context: WorkerContext, job: jobs.Job) -> list[int]:
    told.wait()
    with context.database.begin() as connection:
        jobs.complete(connection, job)
    return []


if __name__ == "__main__":
    assert sys.argv.pop(1) == "worker"
    STAGES[JobKind.VERIFY] = stage
    if os.environ["TEST_JOB"] == "until told":
        # its first receiver, so the worker leaves before the job has seen the event
        worker_shutting_down.connect(lambda **_: threading.Timer(0.1, told.set).start(), weak=False)
    program.main()
