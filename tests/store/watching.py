"""Stages run beside a test that watches their rows."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hsstar.stages.context import WorkerContext
from hsstar.store.queue.jobs import Job


@contextmanager
def running(
    stage: Callable[[WorkerContext, Job], object], context: WorkerContext, job: Job
) -> Iterator[list[Exception]]:
    """The stage in a thread of its own; when the block has ended, the list holds its error."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            stage(context, job)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield errors
    finally:
        thread.join()


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
