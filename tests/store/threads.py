"""What runs beside a test: a stage whose rows it watches, or rivals."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager

from hsstar.stages.context import WorkerContext
from hsstar.store.queue.jobs import Job


@contextmanager
def beside(action: Callable[[], object]) -> Iterator[list[Exception]]:
    """The action in a thread of its own; when the block has ended, the list holds its error."""
    errors: list[Exception] = []
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(action)
        yield errors
    if isinstance(error := done.exception(), Exception):
        errors.append(error)


def running(
    stage: Callable[[WorkerContext, Job], object], context: WorkerContext, job: Job
) -> AbstractContextManager[list[Exception]]:
    return beside(lambda: stage(context, job))


def at_once(*actions: Callable[[], object]) -> list[Exception]:
    """Run actions in threads of their own; return their errors."""
    with ExitStack() as threads:
        errors = [threads.enter_context(beside(action)) for action in actions]
    return [error for of_action in errors for error in of_action]
