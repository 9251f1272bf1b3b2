"""`hsstar worker` for a test: the real worker, whose verifications take TEST_JOB_SECONDS and do nothing."""

import os
import sys
import time

from hsstar.domain.lifecycle import JobKind
from hsstar.stages.context import WorkerContext
from hsstar.store.queue import jobs
from hsstar.workers.__main__ import main
from hsstar.workers.runtime import STAGES


def stage(context: WorkerContext, job: jobs.Job) -> list[int]:
    """Sleeps and completes the job."""
    time.sleep(float(os.environ["TEST_JOB_SECONDS"]))
    with context.database.begin() as connection:
        jobs.complete(connection, job)
    return []


if __name__ == "__main__":
    assert sys.argv.pop(1) == "worker"
    STAGES[JobKind.VERIFY] = stage
    main()
