"""Continuous batching: the rows of all draws share a batch, and waiting rows replace finished ones."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsstar.domain.errors import EngineMemoryError
from hsstar.engines.loading import naming_memory_errors
from hsstar.engines.sampling.hf_decoding import Batch, Draw, DrawSettings, Row

_COMPACTION_SHARE = 0.8
"""Without waiting rows, finished ones are forgotten when at most this share of the batch is unfinished."""


@dataclass(slots=True, eq=False)
class _Caller:
    """The rows of one caller: each is waiting, then live since a time, then finished after milliseconds."""

    settings: DrawSettings
    waiting: deque[Row]
    live: dict[Row, float] = field(default_factory=dict)
    finished: deque[tuple[Row, float]] = field(default_factory=deque)
    alone: bool = False
    error: Exception | None = None

    def shares_with(self, other: "_Caller") -> bool:
        return self is other or (self.settings == other.settings and not (self.alone or other.alone))


class ContinuousBatch:
    """The one batch of a sampler, of at most `size` rows; threads that wait for their rows step it.

    Rows are admitted in the order of arrival, when at least `refill_share` of the batch is free: several
    prompts make one pass. Callers with other settings wait until the batch is empty, and
    later ones wait behind them. With a model that has layers without full attention, all wait for that.

    When a batch of several callers fails, each continues alone, so that only the one at fault gets the error.
    """

    def __init__(self, size: int, refill_share: float) -> None:
        self.model: Any = None
        self.refill_share = refill_share
        self._size = size
        self._changed = threading.Condition()
        self._stepping = False
        self._callers: list[_Caller] = []
        self._abandoned: list[Row] = []
        self._batch: Batch | None = None

    def draw(self, rows: Sequence[Row], settings: DrawSettings) -> Generator[tuple[Row, float]]:
        """Draw rows, admitted in this order; yield each when it is finished, and its milliseconds.

        Raise EngineMemoryError if the batch does not fit into memory; the next one has half as many rows.
        """
        caller = _Caller(settings, deque(rows))
        with self._changed:
            self._callers.append(caller)
        try:
            for _ in rows:
                yield self._next(caller)
        finally:
            with self._changed:
                self._callers.remove(caller)
                self._abandoned += caller.live
                if not self._callers:
                    self._batch = None
                    self._abandoned.clear()

    def _next(self, caller: _Caller) -> tuple[Row, float]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: caller.finished or caller.error or not self._stepping)
                if caller.error:
                    raise caller.error
                if caller.finished:
                    return caller.finished.popleft()
                self._stepping = True
                admitted = self._admit()
            try:
                self._step(*admitted)
            finally:
                with self._changed:
                    self._stepping = False
                    self._changed.notify_all()

    def _admit(self) -> tuple[list[Row], DrawSettings]:
        """Return the rows that join the batch now, and their settings."""
        for row in self._abandoned:  # only now, because no step runs
            row.finished = True
        self._abandoned.clear()
        members = self._live_callers()
        free = self._size - sum(len(caller.live) for caller in members)
        rows: list[Row] = []
        if (
            members
            and self._batch
            and not (self._batch.takes_rows and free >= self.refill_share * self._size)
        ):
            return rows, members[0].settings
        for caller in self._callers:
            if not caller.waiting:
                continue
            if not all(map(caller.shares_with, members)):
                break
            members.append(caller)
            while caller.waiting and len(rows) < free:
                row = caller.waiting.popleft()
                caller.live[row] = time.monotonic()
                rows.append(row)
        return rows, members[0].settings

    def _step(self, rows: list[Row], settings: DrawSettings) -> None:
        try:
            with naming_memory_errors():
                finished = self._decode(rows, settings)
        except Exception as error:
            with self._changed:
                self._recover(error)
        except (
            BaseException
        ):  # an interrupted pass leaves cache and rows of others half done, at nobody's fault
            with self._changed:
                self._requeue(self._live_callers())
            raise
        else:
            with self._changed:
                self._deliver(finished)

    def _decode(self, rows: list[Row], settings: DrawSettings) -> list[Row]:
        """Draw the first token of the rows that join the batch; without any, the next one of all its rows."""
        batch = self._batch
        if rows or batch is None:
            fresh = Batch(self.model, rows, settings)
            finished = fresh.step()
            if batch and batch.unfinished:
                batch.join(fresh)
            else:
                self._batch = fresh
            return finished
        if len(batch.unfinished) <= _COMPACTION_SHARE * len(batch.rows):
            batch.compact()
        return batch.step()

    def _deliver(self, finished: Iterable[Row]) -> None:
        ended = time.monotonic()
        for row in finished:
            for caller in self._callers:
                if row in caller.live:
                    caller.finished.append((row, 1000 * (ended - caller.live.pop(row))))

    def _live_callers(self) -> list[_Caller]:
        return [caller for caller in self._callers if caller.live]

    def _recover(self, error: Exception) -> None:
        members = self._live_callers()
        if isinstance(error, EngineMemoryError):
            self._size = max(1, sum(len(caller.live) for caller in members) // 2)
        if len(members) == 1:
            [at_fault] = members
            self._batch, at_fault.error = None, error
            at_fault.live.clear()  # others need not wait until it has been told
            at_fault.waiting.clear()
            return
        for caller in members:
            caller.alone = True
        self._requeue(members)

    def _requeue(self, members: Iterable[_Caller]) -> None:
        """Let all live rows begin anew, also those that have ended in a pass that failed."""
        self._batch = None
        for caller in members:
            for row in reversed(caller.live):
                row.draw, row.finished, row.put = Draw(), False, []
                caller.waiting.appendleft(row)
            caller.live.clear()
