"""Groups the results of an engine into batches, one for each transaction."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_batches(results: Generator[Result], size: int, seconds: float) -> Generator[list[Result]]:
    """Group results as they arrive; a batch ends when it has `size` results or is `seconds` old.

    A thread of its own computes the results, does not wait for the consumer, and wakes it for full batches
    only. If the results end with an error, the batches before it come first. Closing this iterator closes
    `results` after their next item, and returns then.
    """
    arrived: list[Result] = []
    changed = threading.Condition()
    abandoned = threading.Event()

    def compute() -> None:
        for result in results:
            with changed:
                arrived.append(result)
                if len(arrived) >= size:
                    changed.notify()
            if abandoned.is_set():
                results.close()

    def wake(_: Any) -> None:
        with changed:
            changed.notify()

    with ThreadPoolExecutor(1, "engine") as thread:
        computing = thread.submit(compute)
        computing.add_done_callback(wake)
        try:
            while True:
                with changed:
                    changed.wait_for(lambda: len(arrived) >= size or computing.done(), timeout=seconds)
                    ended = computing.done()
                    batch = arrived[:size]
                    del arrived[:size]
                if batch:
                    yield batch
                elif ended:
                    computing.result()  # raises the error of the results, if there is one
                    return
        finally:
            abandoned.set()
