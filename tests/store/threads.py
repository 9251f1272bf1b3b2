"""What runs beside a test: a stage whose rows it watches, or rivals."""

import threading
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


def at_once(*actions: Callable[[], object]) -> list[Exception]:
    """Run actions in threads of their own; return their errors."""
    errors: list[Exception] = []

    def run(action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors
