"""A pool of checking processes. One that hangs, grows or dies affects only its own task.

A task is a JSON object. Its outcome is the text that a process answers, or a `Failure`. The processes are
forked from a warm one, which has loaded the libraries (`process`).
"""

import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum

from hsstar.domain.errors import EngineError, HsstarError
from hsstar.verifier.pool_processes import (
    LONGEST_WAIT_SECONDS,
    CheckingProcess,
    GoneError,
    Look,
    PoolOptions,
    Task,
    WarmProcess,
)


class Failure(Enum):
    """How a task ended without an answer."""

    TIMED_OUT = "timed out"
    CRASHED = "crashed"


Outcome = str | Failure

_VAIN_STARTS_BEFORE_GIVING_UP = 3
_LONGEST_DEADLINE_SECONDS = 1e6


def _ignore(index: int, outcome: Outcome) -> None:
    """Ignore a report between runs."""


class CheckingPool:
    """Run tasks on a number of processes, which start with the first task and live until `close`.

    The kernel ends a process whose task takes more processor time than its deadline, so that the load of the
    machine changes no outcome; one that hardly runs at all is killed as well. A process that dies is replaced
    at once, and only its task ends as a `Failure`. Call all methods from one thread that lives as long as the
    pool: the kernel ends the processes together with the thread that started them.
    """

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        self._deadline_seconds = min(options.deadline_seconds, _LONGEST_DEADLINE_SECONDS)
        self._warm: WarmProcess | None = None
        self._processes: list[CheckingProcess] = []
        self._vain_starts = 0
        self._first_looks: deque[Look] = deque()
        self._second_looks: deque[Look] = deque()
        self._second_look_seconds = 0.0
        self._open = 0
        self._report: Callable[[int, Outcome], None] = _ignore

    def run(
        self,
        tasks: Sequence[Task],
        report: Callable[[int, Outcome], None],
        is_wanted: Callable[[], bool],
        second_look_seconds: float,
    ) -> None:
        """Run tasks; report index and outcome of each exactly once, as soon as it is final.

        A task that timed out gets a second look of `second_look_seconds` (0: none) after all others, while
        nothing else runs. The run stops within half a second when `is_wanted` turns false. Raise EngineError
        if the processes do not start.
        """
        looks = (Look(index, self._deadline_seconds, not second_look_seconds) for index in range(len(tasks)))
        self._first_looks, self._second_looks = deque(looks), deque()
        self._second_look_seconds = min(second_look_seconds, _LONGEST_DEADLINE_SECONDS)
        self._open, self._report = len(tasks), report
        try:
            while self._open and is_wanted():
                if self._is_warm():
                    self._hand_out(tasks)
                    self._wait()
                    for process in list(self._processes):
                        if process in self._processes:  # it ends with the warm one
                            self._attend(process)
        finally:
            self._report = _ignore
            for process in [process for process in self._processes if process.look is not None]:
                self._remove(process)

    def start(self) -> None:
        """Load what tasks need; raise MissingDependencyError if that fails, EngineError without a process."""
        while not self._is_warm():
            pass

    def close(self) -> None:
        """Kill the processes and wait for their end."""
        for process in list(self._processes):
            self._remove(process)
        if self._warm is not None:
            self._warm.kill()
            self._warm = None

    def _is_warm(self) -> bool:
        """Start the warm process if there is none; wait for it a moment."""
        if self._warm is None:
            self._warm = WarmProcess(self._options)
        try:
            return self._warm.is_ready()
        except GoneError:
            self._lose_warm_process()
            return False
        except HsstarError:  # the next start may find what this one lacked
            self._warm.kill()
            self._warm = None
            raise

    def _lose_warm_process(self) -> None:
        """Give the tasks of the processes, which the kernel ends with the warm one, to others."""
        if self._warm is not None:
            self._warm.kill()
            self._warm = None
        for process in list(self._processes):
            self._remove(process)
            self._give_back(process)
        self._count_vain_start()

    def _hand_out(self, tasks: Sequence[Task]) -> None:
        try:
            while self._warm is not None and len(self._processes) < self._options.processes:
                self._processes.append(self._warm.fork())
        except GoneError:
            self._lose_warm_process()
        for process in self._processes:
            if process.look is None and (look := self._next_look()):
                process.give(look, tasks[look.index])

    def _next_look(self) -> Look | None:
        running = [process.look for process in self._processes if process.look is not None]
        if self._first_looks:
            return self._first_looks.popleft()
        return self._second_looks.popleft() if self._second_looks and not running else None

    def _wait(self) -> None:
        poll = select.poll()
        for process in self._processes:
            process.register(poll)
        nearest = min((process.deadline for process in self._processes), default=0.0)
        seconds = min(max(nearest - time.monotonic(), 0.0), LONGEST_WAIT_SECONDS)
        poll.poll(seconds * 1_000)

    def _attend(self, process: CheckingProcess) -> None:
        now = time.monotonic()
        process.send()
        for message in process.receive():
            self._take(process, message)
        if process.ended or now >= process.deadline:
            self._end(process)

    def _take(self, process: CheckingProcess, message: object) -> None:
        match process.look, message:
            case Look(index=index), {"id": done, "outcome": outcome} if done == index:
                process.be_idle()
                if self._options.one_task_each:
                    self._remove(process)
                self._end_task(index, str(outcome))
            case _:
                process.ended = True

    def _end(self, process: CheckingProcess) -> None:
        """End a process. Its task fails only if it had begun; otherwise another process gets the task."""
        hangs, begun = not process.ended, process.has_begun()
        status = self._remove(process)
        look = process.look
        if status is None:
            self._give_back(process)
            self._lose_warm_process()
        elif look is None or not begun:
            self._give_back(process)
            self._count_vain_start()
        elif not hangs and not (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF):
            self._end_task(look.index, Failure.CRASHED)
        elif look.is_last:
            self._end_task(look.index, Failure.TIMED_OUT)
        else:
            self._second_looks.append(Look(look.index, self._second_look_seconds, is_last=True))

    def _give_back(self, process: CheckingProcess) -> None:
        if process.look is not None:
            is_second = process.look.is_last and self._second_look_seconds
            (self._second_looks if is_second else self._first_looks).appendleft(process.look)

    def _count_vain_start(self) -> None:
        self._vain_starts += 1
        if self._vain_starts >= _VAIN_STARTS_BEFORE_GIVING_UP:
            command = " ".join(self._options.command)
            raise EngineError(f"the checking process does not start: {command} ({self._options.loads})")

    def _end_task(self, index: int, outcome: Outcome) -> None:
        self._vain_starts = 0
        self._open -= 1
        self._report(index, outcome)

    def _remove(self, process: CheckingProcess) -> int | None:
        """Kill a process; return its wait status, None if the warm process is gone."""
        self._processes.remove(process)
        process.close()
        try:
            return self._warm.end(process.pid) if self._warm is not None else None
        except GoneError:
            return None
