"""A worker whose jobs need no engine: python -m bench.queue_worker --role verify [--name NAME]

The worker is the real one; its process puts a stage of its own in the place of the real ones, which computes
for HSSTAR_BENCHMARK_SECONDS (0: not at all) and completes the job.
"""

import os
import time

from hsstar.stages.context import WorkerContext
from hsstar.store.queue import jobs
from hsstar.workers.__main__ import main
from hsstar.workers.runtime import STAGES

SECONDS = "HSSTAR_BENCHMARK_SECONDS"


def stage(context: WorkerContext, job: jobs.Job) -> list[int]:
    """A GPU that is busy for so long, and the completion."""
    if seconds := float(os.environ[SECONDS]):
        time.sleep(seconds)
    with context.database.begin() as connection:
        jobs.complete(connection, job)
    return []


if __name__ == "__main__":
    STAGES.update(dict.fromkeys(STAGES, stage))
    main()
