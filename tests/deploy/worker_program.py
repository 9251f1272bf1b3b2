"""`hsstar worker` for a test: the real worker, whose verifications end when TEST_JOB says so, and do nothing.

`until told`: when the worker is asked to end. `for ever`: never. What it runs has to be of this checkout.
"""

import os
import sys
import threading
from pathlib import Path

from celery.signals import worker_shutting_down

import hsstar
from hsstar.domain.lifecycle import JobKind
from hsstar.stages.context import WorkerContext
from hsstar.store.queue import jobs
from hsstar.workers import __main__ as program
from hsstar.workers.runtime import STAGES

CHECKOUT = Path(__file__).parents[2]
told = threading.Event()


def stage(context: WorkerContext, job: jobs.Job) -> list[int]:
    told.wait()
    with context.database.begin() as connection:
        jobs.complete(connection, job)
    return []


if __name__ == "__main__":
    assert sys.argv.pop(1) == "worker"
    assert Path(hsstar.__file__).is_relative_to(CHECKOUT), hsstar.__file__
    assert Path(program.__file__).resolve().is_relative_to(CHECKOUT), program.__file__
    STAGES[JobKind.VERIFY] = stage
    if os.environ["TEST_JOB"] == "until told":
        # its first receiver, so the worker leaves before the job has seen the event
        worker_shutting_down.connect(lambda **_: threading.Timer(0.1, told.set).start(), weak=False)
    program.main()
