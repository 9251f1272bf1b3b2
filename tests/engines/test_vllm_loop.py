"""The thread that steps an engine: what callers get when requests come, are given up, and the engine dies."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from hsstar.domain.errors import EngineDeadError, EngineMemoryError
from hsstar.engines.vllm.loop import EngineLoop


@dataclass
class Engine:
    """Finishes a request of length n in the n-th step after it has come."""

    left: dict[str, int] = field(default_factory=dict)
    errors: list[Exception] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    aborted: list[str] = field(default_factory=list)
    caches_cleared: int = 0
    clears_its_cache: bool = True

    def add_request(self, name: str, length: int) -> None:
        if length < 0:
            raise ValueError("a negative length")
        self.left[name] = length

    def abort_request(self, names: list[str]) -> None:
        self.aborted += names
        for name in names:
            self.left.pop(name, None)

    def step(self) -> list[Any]:
        self.threads.add(threading.get_ident())
        if self.left and self.errors:
            raise self.errors.pop()
        outputs = [SimpleNamespace(request_id=name, finished=left <= 1) for name, left in self.left.items()]
        self.left = {name: left - 1 for name, left in self.left.items() if left > 1}
        return outputs

    def reset_prefix_cache(self) -> bool:
        self.caches_cleared += 1
        return self.clears_its_cache


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def loop(engine: Engine) -> Iterator[EngineLoop]:
    started = EngineLoop(lambda: engine)
    yield started
    started.close()


def lengths(*of_requests: int) -> list[dict[str, Any]]:
    return [{"length": length} for length in of_requests]


def finished(loop: EngineLoop, *of_requests: int) -> list[int]:
    return [progress.place for progress in loop.start(lengths(*of_requests)) if progress.finished]


def test_requests_finish_in_the_order_of_their_ends(loop: EngineLoop) -> None:
    assert finished(loop, 30, 10, 20) == [1, 2, 0]
    assert finished(loop) == []


def test_a_refused_request_leaves_its_neighbours_alone(loop: EngineLoop) -> None:
    arrived = {progress.place: progress.output for progress in loop.start(lengths(1, -1, 1))}
    assert arrived[1] == "a negative length"
    assert arrived[0].finished and arrived[2].finished


def test_one_thread_touches_the_engine(loop: EngineLoop, engine: Engine) -> None:
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda first: finished(loop, first, 9, 3), [5] * 4)) == [[2, 0, 1]] * 4
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


def test_a_request_that_was_ended_is_taken_out_of_the_engine(loop: EngineLoop, engine: Engine) -> None:
    group, places = loop.start(lengths(10**9, 3)), set()
    for progress in group:
        if progress.place == 0:
            group.end(0)
        places.add(progress.place)
    assert places == {0, 1}
    assert loop.call(lambda known: dict(known.left)) == {}
    assert len(engine.aborted) == 1


def test_a_group_that_is_closed_is_taken_out_of_the_engine(loop: EngineLoop) -> None:
    group = loop.start(lengths(10**9, 10**9))
    next(iter(group))
    group.close()
    assert loop.call(lambda known: dict(known.left)) == {}
    assert finished(loop, 2) == [0]


def test_out_of_memory_fails_what_is_under_way_and_nothing_later(loop: EngineLoop, engine: Engine) -> None:
    engine.errors.append(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(EngineMemoryError, match="CUDA out of memory"):
        finished(loop, 5, 5)
    assert engine.caches_cleared == 1
    assert finished(loop, 2) == [0]


def test_a_cache_that_cannot_be_cleared_after_that_is_the_end(loop: EngineLoop, engine: Engine) -> None:
    engine.errors.append(MemoryError())
    engine.clears_its_cache = False
    with pytest.raises(EngineDeadError, match="cache"):
        finished(loop, 5)


@pytest.mark.parametrize("end", ["RuntimeError: boom", "closed"])
def test_an_ended_engine_fails_what_is_under_way_and_what_comes_later(loop: EngineLoop, end: str) -> None:
    group = loop.start(lengths(10**9))
    next(iter(group))
    if end == "closed":
        loop.close()
    else:
        loop.call(lambda known: known.errors.append(RuntimeError("boom")))
    for use in (lambda: finished(loop, 1), lambda: list(group), lambda: loop.start(lengths(1))):
        with pytest.raises(EngineDeadError, match=end):
            use()


def test_an_error_of_a_call_is_its_callers_alone(loop: EngineLoop) -> None:
    with pytest.raises(ZeroDivisionError):
        loop.call(lambda known: 1 // 0)
    assert finished(loop, 1) == [0]


def test_an_engine_that_does_not_start_says_why() -> None:
    def build() -> Engine:
        raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        EngineLoop(build)
