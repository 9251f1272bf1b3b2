"""Results come in batches by count and age, and are computed meanwhile."""

import threading
from collections.abc import Generator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.stages.batching import in_batches


@given(number=st.integers(0, 40), size=st.integers(1, 10), seconds=st.sampled_from([0.0, 0.0001, 60.0]))
def test_every_result_is_in_one_batch_in_order_and_a_batch_ends_when_it_is_full_or_old(
    number: int, size: int, seconds: float
) -> None:
    batches = list(in_batches((result for result in range(number)), size, seconds))
    assert [result for batch in batches for result in batch] == list(range(number))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert seconds < 60.0 or all(len(batch) == size for batch in batches[:-1])


class PausingResults:
    """Numbers, with a pause before one of them until they may go on; notes the thread that ends them."""

    def __init__(self, pause_at: int, number: int) -> None:
        self.pause_at, self.number = pause_at, number
        self.going_on = threading.Event()
        self.ended: list[str] = []

    def __iter__(self) -> Generator[int]:
        try:
            yield from range(self.pause_at)
            self.going_on.wait()
            yield from range(self.pause_at, self.number)
        finally:
            self.ended.append(threading.current_thread().name)


def test_a_batch_ends_when_it_is_old_though_the_next_result_takes_its_time() -> None:
    results = PausingResults(2, 4)
    with closing(in_batches(iter(results), 100, 0.05)) as batches:
        found = next(batches)
        if found == [0]:  # a slow machine
            found += next(batches)
        assert found == [0, 1]
        results.going_on.set()
        assert [result for batch in batches for result in batch] == [2, 3]


def test_a_batch_that_is_neither_full_nor_old_is_not_there() -> None:
    results = PausingResults(2, 3)
    threading.Timer(0.2, results.going_on.set).start()
    assert list(in_batches(iter(results), 3, 60.0)) == [[0, 1, 2]]


def test_results_do_not_wait_for_whoever_takes_them() -> None:
    computed = threading.Event()

    def results() -> Generator[int]:
        yield from range(100)
        computed.set()

    with closing(in_batches(results(), 10, 60.0)) as batches:
        assert next(batches) == list(range(10))
        assert computed.wait(10)
        assert [result for batch in batches for result in batch] == list(range(10, 100))


def test_what_arrived_before_an_error_is_a_batch_before_it() -> None:
    def results() -> Generator[int]:
        yield from range(5)
        raise ZeroDivisionError

    found = []
    with pytest.raises(ZeroDivisionError):
        for batch in in_batches(results(), 3, 60.0):
            found.append(batch)
    assert found == [[0, 1, 2], [3, 4]]


def test_closing_ends_the_computation_before_it_returns() -> None:
    results = PausingResults(1, 1_000_000_000)
    batches = in_batches(iter(results), 1, 60.0)
    assert next(batches) == [0]
    threading.Timer(0.1, results.going_on.set).start()
    batches.close()
    (thread,) = results.ended
    assert thread.startswith("engine")
