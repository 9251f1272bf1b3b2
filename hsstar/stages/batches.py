"""Results that an engine yields one by one, grouped so that each group is worth a transaction."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TypeVar

Result = TypeVar("Result")


def in_batches(
    results: Iterable[Result | None],
    size: int,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Result]]:
    """Groups results as they arrive; a batch ends when it is full, or old at an arrival.

    Where the results end with an error, the batch that they leave comes before it.

    Args:
        results: what is to be grouped; None is no result, but an arrival (see `with_ticks`).
        size: results of a full batch.
        seconds: from the end of the last batch until the next one is old.
        clock: tells the time in seconds.
    """
    batch: list[Result] = []
    begun = clock()
    try:
        for result in results:
            if result is not None:
                batch.append(result)
            if batch and (len(batch) >= size or clock() - begun >= seconds):
                yield batch
                batch, begun = [], clock()
    except Exception:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def with_ticks(results: Generator[Result], seconds: float) -> Generator[Result | None]:
    """The results as they arrive, and None whenever so many seconds have brought none.

    They are computed in a thread of their own, which does not wait for whoever takes them. Closing this
    iterator closes `results` after the next of them, and returns when that has happened.
    """
    arrived: SimpleQueue[Result | Future[None]] = SimpleQueue()
    abandoned = threading.Event()

    def compute() -> None:
        for result in results:
            arrived.put(result)
            if abandoned.is_set():
                results.close()

    with ThreadPoolExecutor(1, "engine") as thread:
        computing = thread.submit(compute)
        computing.add_done_callback(arrived.put)
        try:
            while True:
                try:
                    result = arrived.get(timeout=seconds)
                except Empty:
                    yield None
                    continue
                if isinstance(result, Future):
                    result.result()  # the error that ended the results, if one has
                    return
                yield result
        finally:
            abandoned.set()
