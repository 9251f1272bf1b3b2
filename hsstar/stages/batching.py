"""Results that an engine yields one by one, grouped so that each group is worth a transaction."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_batches(results: Generator[Result], size: int, seconds: float) -> Generator[list[Result]]:
    """Groups results as they arrive; a batch ends when it is full or old.

    They are computed in a thread of their own, which does not wait for whoever takes the batches, and wakes
    it for a whole batch only. Where the results end with an error, what arrived before comes before it.
    Closing this iterator closes `results` after the next of them, and returns when that has happened.

    Args:
        results: what is to be grouped.
        size: results of a full batch.
        seconds: that a result waits at most for its batch to end.
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
                    computing.result()  # the error that ended the results, if one has
                    return
        finally:
            abandoned.set()
