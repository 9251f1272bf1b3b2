"""A pool of checking processes. One that hangs, grows or dies affects only its own task.

A task is a JSON object. Its outcome is the text that a process answers, or a `Failure`.
"""

import json
import os
import select
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from hsstar.domain.errors import EngineError, MissingDependencyError

Task = dict[str, str]


class Failure(Enum):
    """How a task ended without an answer."""

    TIMED_OUT = "timed out"
    CRASHED = "crashed"


Outcome = str | Failure

_NEEDED = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "PYTHONHOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "SYSTEMROOT",
)
_START_SECONDS = 60.0
_VAIN_STARTS_BEFORE_GIVING_UP = 3
_NEVER = float("inf")
_LONGEST_WAIT_SECONDS = 0.5
_READ_BYTES = 1 << 16


def _ignore(index: int, outcome: Outcome) -> None:
    """Ignore a report between runs."""


class CheckingPool:
    """Run tasks on a number of processes, which start with the first task and live until `close`.

    A process that dies, or is killed because its task ran out of time, is replaced at once; only its task
    ends as a `Failure`. Call all methods from one thread that lives as long as the pool: the kernel ends the
    processes together with the thread that started them.
    """

    def __init__(self, command: Sequence[str], processes: int, deadline_seconds: float) -> None:
        self._command = command
        self._size = processes
        self._deadline_seconds = deadline_seconds
        self._processes: list[_CheckingProcess] = []
        self._vain_starts = 0
        self._waiting: deque[int] = deque()
        self._open = 0
        self._report: Callable[[int, Outcome], None] = _ignore

    def run(
        self,
        tasks: Sequence[Task],
        report: Callable[[int, Outcome], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        """Run tasks; report index and outcome of each exactly once, as soon as it ends.

        The clock of a task starts when a process says that it has begun. The run stops within half a second
        when `is_wanted` turns false. Raise EngineError if the processes do not start.
        """
        self._waiting = deque(range(len(tasks)))
        self._open, self._report = len(tasks), report
        try:
            while self._open and is_wanted():
                while len(self._processes) < self._size:
                    self._processes.append(_CheckingProcess(self._command))
                for process in self._processes:
                    if self._waiting and process.idle:
                        index = self._waiting.popleft()
                        process.give(index, tasks[index])
                self._wait()
                for process in list(self._processes):
                    self._attend(process)
        finally:
            self._report = _ignore
            for process in [process for process in self._processes if process.task is not None]:
                self._remove(process)

    def close(self) -> None:
        """Kill the processes and wait for their end."""
        for process in list(self._processes):
            self._remove(process)

    def _wait(self) -> None:
        poll = select.poll()
        for process in self._processes:
            process.register(poll)
        nearest = min((process.deadline for process in self._processes), default=0.0)
        seconds = min(max(nearest - time.monotonic(), 0.0), _LONGEST_WAIT_SECONDS)
        poll.poll(seconds * 1_000)

    def _attend(self, process: "_CheckingProcess") -> None:
        now = time.monotonic()
        process.send()
        for message in process.receive():
            self._take(process, message)
        if process.ended:
            self._end(process, Failure.CRASHED)
        elif now >= process.deadline:
            self._end(process, Failure.TIMED_OUT)

    def _take(self, process: "_CheckingProcess", message: dict[str, Any]) -> None:
        match message:
            case {"ready": True}:
                process.ready, process.deadline = True, _NEVER
            case {"failed": reason}:
                raise MissingDependencyError(f"the checking process cannot load Math-Verify: {reason}")
            case {"begun": index} if index == process.task:
                process.begun, process.deadline = True, time.monotonic() + self._deadline_seconds
                self._vain_starts = 0
            case {"id": index, "outcome": outcome} if index == process.task:
                process.task, process.deadline = None, _NEVER
                self._end_task(index, str(outcome))
            case _:
                process.ended = True

    def _end(self, process: "_CheckingProcess", failure: Failure) -> None:
        """End a process. Its task fails only if it had begun; otherwise another process gets the task."""
        self._remove(process)
        if process.task is not None and process.begun:
            self._end_task(process.task, failure)
            return
        if process.task is not None:
            self._waiting.appendleft(process.task)
        self._vain_starts += 1
        if self._vain_starts >= _VAIN_STARTS_BEFORE_GIVING_UP:
            raise EngineError(f"the checking process does not start: {' '.join(self._command)}")

    def _end_task(self, index: int, outcome: Outcome) -> None:
        self._open -= 1
        self._report(index, outcome)

    def _remove(self, process: "_CheckingProcess") -> None:
        self._processes.remove(process)
        process.kill()


def _environment() -> dict[str, str]:
    """What a program needs to run: none of our settings, and no secret of the user."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


class _CheckingProcess:
    """One process; `task` is None while idle or starting, `begun` once the process has read it.

    `deadline` (`time.monotonic`) is when it must be ready, have begun, or be done. `ended`: its output is
    useless.
    """

    def __init__(self, command: Sequence[str]) -> None:
        module_path = os.pathsep.join(
            path or str(Path.cwd()) for path in sys.path
        )  # the same modules as here
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment() | {"PYTHONPATH": module_path, "OMP_NUM_THREADS": "1"},
        )
        assert self._process.stdin and self._process.stdout  # noqa: S101 - pipes, for the type checker
        self._input, self._output = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._input, False)
        os.set_blocking(self._output, False)
        self._unsent = self._received = b""
        self.ready = self.begun = self.ended = False
        self.task: int | None = None
        self.deadline = time.monotonic() + _START_SECONDS

    @property
    def idle(self) -> bool:
        return self.ready and self.task is None

    def register(self, poll: select.poll) -> None:
        poll.register(self._output, select.POLLIN)
        if self._unsent:
            poll.register(self._input, select.POLLOUT)

    def give(self, index: int, task: Task) -> None:
        self.task, self.begun, self.deadline = index, False, time.monotonic() + _START_SECONDS
        self._unsent = json.dumps({"id": index, **task}).encode() + b"\n"
        self.send()

    def send(self) -> None:
        """Send what the pipe takes now. A broken pipe is noticed where results are read."""
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(self._input, self._unsent) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = b""

    def receive(self) -> list[dict[str, Any]]:
        try:
            while data := os.read(self._output, _READ_BYTES):
                self._received += data
            self.ended = True
        except BlockingIOError:
            pass
        *lines, self._received = self._received.split(b"\n")
        return [json.loads(line) for line in lines]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
