"""A worker whose jobs need no engine: python -m bench.queue_worker --role verify [--name NAME]

It is a real worker, but every stage only sleeps for HSSTAR_BENCHMARK_SECONDS and completes the job.
"""

import os
import time

from hsstar.stages.context import WorkerContext
from hsstar.store.queue import jobs
from hsstar.workers.__main__ import main
from hsstar.workers.runtime import STAGES

SECONDS = "HSSTAR_BENCHMARK_SECONDS"


def stage(context: WorkerContext, job: jobs.Job) -> list[int]:
    """Sleep like a worker whose GPU is busy, and complete the job."""
    if seconds := float(os.environ[SECONDS]):
        time.sleep(seconds)
    with context.database.begin() as connection:
        jobs.complete(connection, job)
    return []


if __name__ == "__main__":
    STAGES.update(dict.fromkeys(STAGES, stage))
    main()
