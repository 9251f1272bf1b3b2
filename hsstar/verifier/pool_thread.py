"""A `CheckingPool` on a thread of its own, which outlives the threads that use it; they take turns."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue

from hsstar.domain.errors import EngineError
from hsstar.verifier.pool import CheckingPool, Outcome
from hsstar.verifier.pool_processes import PoolOptions, Task


class PoolThread:
    """Run tasks on checking processes, which start with the first task and end with `close`."""

    def __init__(self, options: PoolOptions) -> None:
        self._pool = CheckingPool(options)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="verifier")
        self._closed = threading.Event()

    @property
    def is_closed(self) -> bool:
        """Whether it was closed."""
        return self._closed.is_set()

    def start(self) -> None:
        """Load what tasks need. Raise MissingDependencyError if that fails, EngineError without a process."""
        self._thread.submit(self._pool.start).result()

    def run(self, tasks: Sequence[Task], second_look_seconds: float) -> Iterator[tuple[int, Outcome]]:
        """Run tasks; yield index and outcome of each as soon as it is final. Raises as `CheckingPool.run`."""
        if not tasks:
            return
        outcomes: SimpleQueue[tuple[int, Outcome] | None] = SimpleQueue()
        abandoned = threading.Event()

        def is_wanted() -> bool:
            return not (abandoned.is_set() or self._closed.is_set())

        def report(index: int, outcome: Outcome) -> None:
            outcomes.put((index, outcome))

        try:
            running = self._thread.submit(self._pool.run, tasks, report, is_wanted, second_look_seconds)
        except RuntimeError:
            raise EngineError("the verifier is closed") from None
        running.add_done_callback(lambda _: outcomes.put(None))
        waiting = len(tasks)
        try:
            while (outcome := outcomes.get()) is not None:
                waiting -= 1
                yield outcome
        finally:
            abandoned.set()
        if self._closed.is_set() and waiting:
            raise EngineError("the verifier was closed during a verification")
        running.result()

    def close(self) -> None:
        """End the processes; a run in another thread ends with an error."""
        self._closed.set()
        with suppress(RuntimeError):  # it is closed already
            self._thread.submit(self._pool.close).result()
        self._thread.shutdown()
