"""Results come in batches by count and age."""

import threading
from collections.abc import Generator, Iterator
from contextlib import closing

import pytest

from hsstar.stages.batches import in_batches, with_ticks


class Arrivals:
    """Results that arrive at given times, and the clock that shows them."""

    def __init__(self, *times: float) -> None:
        self.now = 0.0
        self.times = times

    def __iter__(self) -> Iterator[float]:
        for time in self.times:
            self.now = time
            yield time

    def clock(self) -> float:
        return self.now


def test_a_batch_ends_when_it_is_full() -> None:
    assert list(in_batches(range(7), 3, 60.0)) == [[0, 1, 2], [3, 4, 5], [6]]


def test_nothing_makes_no_batch() -> None:
    assert list(in_batches([], 3, 60.0)) == []


def test_a_batch_ends_when_it_is_old() -> None:
    arrivals = Arrivals(0.1, 0.9, 1.1, 1.2, 2.0, 2.1, 5.0, 5.1)
    found = list(in_batches(arrivals, 100, 1.0, arrivals.clock))
    assert found == [[0.1, 0.9, 1.1], [1.2, 2.0, 2.1], [5.0], [5.1]]


def test_the_time_that_writing_takes_does_not_count() -> None:
    arrivals = Arrivals(0.1, 1.0, 4.1, 4.5, 5.0, 8.1)
    found = []
    for batch in in_batches(arrivals, 100, 1.0, arrivals.clock):
        found.append(batch)
        arrivals.now += 3.0
    assert found == [[0.1, 1.0], [4.1, 4.5, 5.0], [8.1]]


def test_a_batch_is_there_before_the_next_result_is_asked_for() -> None:
    asked = []

    def results() -> Iterator[int]:
        for number in range(4):
            asked.append(number)
            yield number

    batches = in_batches(results(), 2, 60.0)
    assert next(batches) == [0, 1]
    assert asked == [0, 1]


def test_results_that_nobody_takes_any_more_are_not_computed() -> None:
    ended = []

    def results() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            ended.append(True)

    with pytest.raises(ZeroDivisionError):
        for batch in in_batches(results(), 2, 60.0):
            batch[0] / 0
    assert ended == [True]


def test_an_arrival_without_a_result_ends_an_old_batch_and_no_other() -> None:
    arrivals = iter([(0.1, "a"), (0.5, None), (1.5, None), (2.0, None), (4.0, None), (4.1, "b")])
    now = 0.0

    def results() -> Iterator[str | None]:
        nonlocal now
        for now, result in arrivals:  # noqa: B007  # the clock shows it
            yield result

    found = []
    for batch in in_batches(results(), 100, 1.0, lambda: now):
        found.append((now, batch))
    assert found == [(1.5, ["a"]), (4.1, ["b"])]


def test_what_arrived_before_an_error_is_a_batch_before_it() -> None:
    def results() -> Iterator[int]:
        yield from range(5)
        raise ZeroDivisionError

    found = []
    with pytest.raises(ZeroDivisionError):
        for batch in in_batches(results(), 3, 60.0):
            found.append(batch)
    assert found == [[0, 1, 2], [3, 4]]


def test_ticks_come_while_a_result_takes_its_time() -> None:
    ticked = threading.Event()

    def results() -> Generator[int]:
        yield 1
        ticked.wait()
        yield 2

    found = []
    with closing(with_ticks(results(), 0.01)) as arriving:
        for result in arriving:
            found.append(result)
            if result is None:
                ticked.set()
    assert [result for result in found if result is not None] == [1, 2]
    assert found[:2] == [1, None]


def test_results_do_not_wait_for_whoever_takes_them() -> None:
    computed = threading.Event()

    def results() -> Generator[int]:
        yield from range(100)
        computed.set()

    with closing(with_ticks(results(), 60.0)) as arriving:
        assert next(arriving) == 0
        assert computed.wait(10)
        assert list(arriving) == list(range(1, 100))


def test_an_error_comes_after_the_results_before_it() -> None:
    def results() -> Generator[int]:
        yield from range(3)
        raise ZeroDivisionError

    found = []
    with pytest.raises(ZeroDivisionError):
        for result in with_ticks(results(), 60.0):
            found.append(result)
    assert found == [0, 1, 2]


def test_closing_ends_the_computation_before_it_returns() -> None:
    ended = []
    going_on = threading.Event()

    def results() -> Generator[int]:
        try:
            yield 0
            going_on.wait()
            yield from range(1, 1_000_000_000)
        finally:
            ended.append(threading.current_thread().name)

    arriving = with_ticks(results(), 60.0)
    assert next(arriving) == 0
    threading.Timer(0.1, going_on.set).start()
    arriving.close()
    assert len(ended) == 1
    assert ended[0].startswith("engine")
