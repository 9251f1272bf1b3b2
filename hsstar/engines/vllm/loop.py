"""One thread steps a vLLM engine, so that the requests of several callers are decoded together."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from hsstar.domain.errors import EngineDeadError, EngineError, EngineMemoryError
from hsstar.engines.loading import naming_memory_errors

Result = TypeVar("Result")

_CLOSED = "the engine was closed"


@dataclass(frozen=True, slots=True)
class Progress:
    """The output of a step (vLLM's `RequestOutput`, or the reason of a refusal), by `time.monotonic`."""

    place: int
    output: Any
    begun: float
    ended: float

    @property
    def finished(self) -> bool:
        """Whether this is the last progress of the request."""
        return isinstance(self.output, str) or self.output.finished


class Group:
    """The requests of one caller; iteration yields their progress until all have ended."""

    def __init__(self, loop: "EngineLoop", names: Sequence[str]) -> None:
        self.arrivals: SimpleQueue[Progress | EngineError] = SimpleQueue()
        self._loop = loop
        self._open = dict(enumerate(names))

    def __iter__(self) -> Iterator[Progress]:
        while self._open:
            arrived = self.arrivals.get()
            if isinstance(arrived, EngineError):
                self._open.clear()
                raise arrived
            if arrived.place in self._open:  # else it was ended in the meantime
                if arrived.finished:
                    del self._open[arrived.place]
                yield arrived

    def end(self, place: int) -> None:
        """End this request early."""
        self._loop.abandon([self._open.pop(place)])

    def close(self) -> None:
        """End all unfinished requests."""
        if self._open:
            self._loop.abandon(self._open.values())
            self._open.clear()


class EngineLoop:
    """Owns an engine and the only thread that touches it.

    Between two steps the thread runs the callers' actions. If a step runs out of memory, the current
    requests fail and the engine lives on; after any other error of a step it is dead.
    """

    def __init__(self, build: Callable[[], Any]) -> None:
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._requests: dict[str, tuple[Group, int]] = {}
        self._numbers = count()
        self._engine: Any = None
        self._death = ""
        self._door = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="vllm", daemon=True)
        self._thread.start()
        try:
            self.call(lambda _: self._build(build))
        except BaseException:
            self.close()
            raise

    def call(self, action: Callable[[Any], Result]) -> Result:
        """Run an action between two steps and wait for it; raise EngineDeadError if the engine has ended."""
        result: Future[Result] = Future()

        def perform() -> None:
            try:
                if self._death:
                    raise EngineDeadError(self._death)
                result.set_result(action(self._engine))
            except BaseException as error:
                result.set_exception(error)

        if not self._post(perform):
            raise EngineDeadError(_CLOSED)
        return result.result()

    def start(self, requests: Sequence[Mapping[str, Any]]) -> Group:
        """Start requests, each the arguments of the engine's `add_request` without the name."""
        names = [str(next(self._numbers)) for _ in requests]
        group = Group(self, names)

        def admit(engine: Any) -> None:
            for place, (name, arguments) in enumerate(zip(names, requests, strict=True)):
                self._requests[name] = group, place
                try:
                    engine.add_request(name, **arguments)
                except ValueError as error:
                    now = time.monotonic()
                    self._arrived(name, str(error), now, now)

        self.call(admit)
        return group

    def abandon(self, names: Iterable[str]) -> None:
        """End requests before the next step."""
        unwanted = list(names)

        def forget() -> None:
            known = [name for name in unwanted if self._requests.pop(name, None)]
            if known and not self._death:
                self._engine.abort_request(known)

        self._post(forget)

    def close(self) -> None:
        """End the thread and free the engine; unfinished requests fail."""
        with self._door:
            if not self._closed:
                self._inbox.put(None)
            self._closed = True
        self._thread.join()

    def _post(self, task: Callable[[], None]) -> bool:
        with self._door:
            if not self._closed:
                self._inbox.put(task)
            return not self._closed

    def _build(self, build: Callable[[], Any]) -> None:
        self._engine = build()

    def _run(self) -> None:
        while True:
            try:
                task = self._inbox.get(block=not self._requests)
            except Empty:
                self._step()
                continue
            if task is None:
                self._die(_CLOSED)
                return
            try:
                task()
            except Exception as error:  # the engine failed in a caller's action
                self._die(_death(error))

    def _step(self) -> None:
        begun = time.monotonic()
        try:
            with naming_memory_errors():
                outputs = self._engine.step()
        except EngineMemoryError as error:
            self._recover(error)
        except Exception as error:  # vLLM raises errors of all kinds, and none leaves it usable
            self._die(_death(error))
        else:
            ended = time.monotonic()
            for output in outputs:
                self._arrived(output.request_id, output, begun, ended)

    def _arrived(self, name: str, output: Any, begun: float, ended: float) -> None:
        if name in self._requests:
            group, place = self._requests[name]
            progress = Progress(place, output, begun, ended)
            if progress.finished:
                del self._requests[name]
            group.arrivals.put(progress)

    def _recover(self, error: EngineMemoryError) -> None:
        try:
            self._engine.abort_request(list(self._requests))
            self._engine.step()  # lets the model forget the requests too
            cleared = self._engine.reset_prefix_cache()
        except Exception as further:  # the engine cannot be trusted any more
            self._die(f"vLLM is {error}; then {_death(further)}")
            return
        if cleared:
            self._fail(lambda: EngineMemoryError(str(error)))
        else:
            self._die(f"vLLM is {error}; then its cache could not be cleared")

    def _die(self, reason: str) -> None:
        self._death = reason
        engine, self._engine = self._engine, None
        if engine is not None:
            with suppress(Exception):  # the engine is dead anyway
                engine.engine_core.shutdown()
        self._fail(lambda: EngineDeadError(reason))

    def _fail(self, error: Callable[[], EngineError]) -> None:
        groups = {id(group): group for group, _ in self._requests.values()}
        self._requests.clear()
        for group in groups.values():
            group.arrivals.put(error())


def _death(error: Exception) -> str:
    return f"vLLM died: {type(error).__name__}: {error}"
