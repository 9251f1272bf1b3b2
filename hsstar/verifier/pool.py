"""A pool of checking processes. One that hangs, grows or dies affects only its own task.

A task is a JSON object. Its outcome is the text that a process answers, or a `Failure`. The processes are
forked from a warm one, which has loaded the libraries (`process`).
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from io import FileIO
from pathlib import Path
from typing import Any

from hsstar.domain.errors import EngineError, MissingDependencyError

Task = Mapping[str, str | list[str]]


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
_START_SECONDS = 300.0
_VAIN_STARTS_BEFORE_GIVING_UP = 3
_NEVER = float("inf")
_LONGEST_WAIT_SECONDS = 0.5
_LONGEST_DEADLINE_SECONDS = 1e6
_WALL_SECONDS, _WALL_SECONDS_PER_SECOND = 60.0, 200.0
"""A task that gets less than a two-hundredth of a processor for so long hangs."""
_READ_BYTES = 1 << 16


def _ignore(index: int, outcome: Outcome) -> None:
    """Ignore a report between runs."""


@dataclass(frozen=True, slots=True)
class _Look:
    """A look at the task of an index, for some seconds of processor time."""

    index: int
    seconds: float
    is_last: bool


class CheckingPool:
    """Run tasks on a number of processes, which start with the first task and live until `close`.

    The kernel ends a process whose task takes more processor time than its deadline, so that the load of the
    machine changes no outcome; one that hardly runs at all is killed as well. A process that dies is replaced
    at once, and only its task ends as a `Failure`. Call all methods from one thread that lives as long as the
    pool: the kernel ends the processes together with the thread that started them.
    """

    def __init__(self, command: Sequence[str], processes: int, deadline_seconds: float) -> None:
        self._command = command
        self._size = processes
        self._deadline_seconds = min(deadline_seconds, _LONGEST_DEADLINE_SECONDS)
        self._warm: _WarmProcess | None = None
        self._processes: list[_CheckingProcess] = []
        self._vain_starts = 0
        self._first_looks: deque[_Look] = deque()
        self._second_looks: deque[_Look] = deque()
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
        looks = (_Look(index, self._deadline_seconds, not second_look_seconds) for index in range(len(tasks)))
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
            self._warm = _WarmProcess(self._command)
        try:
            return self._warm.is_ready()
        except _GoneError:
            self._lose_warm_process()
            return False

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
            while self._warm is not None and len(self._processes) < self._size:
                self._processes.append(self._warm.fork())
        except _GoneError:
            self._lose_warm_process()
        for process in self._processes:
            if process.look is None and (look := self._next_look()):
                process.give(look, tasks[look.index])

    def _next_look(self) -> _Look | None:
        running = [process.look for process in self._processes if process.look is not None]
        if self._first_looks:
            return self._first_looks.popleft()
        return self._second_looks.popleft() if self._second_looks and not running else None

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
        if process.ended or now >= process.deadline:
            self._end(process)

    def _take(self, process: "_CheckingProcess", message: dict[str, Any]) -> None:
        match process.look, message:
            case _Look(index=index), {"id": done, "outcome": outcome} if done == index:
                process.be_idle()
                self._end_task(index, str(outcome))
            case _:
                process.ended = True

    def _end(self, process: "_CheckingProcess") -> None:
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
            self._second_looks.append(_Look(look.index, self._second_look_seconds, is_last=True))

    def _give_back(self, process: "_CheckingProcess") -> None:
        if process.look is not None:
            is_second = process.look.is_last and self._second_look_seconds
            (self._second_looks if is_second else self._first_looks).appendleft(process.look)

    def _count_vain_start(self) -> None:
        self._vain_starts += 1
        if self._vain_starts >= _VAIN_STARTS_BEFORE_GIVING_UP:
            raise EngineError(f"the checking process does not start: {' '.join(self._command)}")

    def _end_task(self, index: int, outcome: Outcome) -> None:
        self._vain_starts = 0
        self._open -= 1
        self._report(index, outcome)

    def _remove(self, process: "_CheckingProcess") -> int | None:
        """Kill a process; return its wait status, None if the warm process is gone."""
        self._processes.remove(process)
        process.close()
        try:
            return self._warm.end(process.pid) if self._warm is not None else None
        except _GoneError:
            return None


def _environment() -> dict[str, str]:
    """What a program needs to run: none of our settings, and no secret of the user."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


class _GoneError(Exception):
    """The warm process has died, or does not answer."""


class _WarmProcess:
    """The process that forks checking processes, and alone can end them without mistaking one for another."""

    def __init__(self, command: Sequence[str]) -> None:
        module_path = os.pathsep.join(
            path or str(Path.cwd()) for path in sys.path
        )  # the same modules as here
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment() | {"PYTHONPATH": module_path, "OMP_NUM_THREADS": "1"},
            )
        self._received = b""
        self._ready = False
        self._deadline = time.monotonic() + _START_SECONDS

    def is_ready(self) -> bool:
        """Say whether it has loaded the libraries, which it may do now for half a second."""
        if not self._ready:
            match self._answer(_LONGEST_WAIT_SECONDS):
                case {"ready": True}:
                    self._ready = True
                case {"failed": reason}:
                    raise MissingDependencyError(f"the checking process cannot load Math-Verify: {reason}")
                case None if time.monotonic() >= self._deadline:
                    raise _GoneError
        return self._ready

    def fork(self) -> "_CheckingProcess":
        """Return a new checking process."""
        ours, theirs = socket.socketpair()
        begun, begins = map(FileIO, os.pipe(), ("rb", "wb"))
        with theirs, begins:
            answer = self._order({"fork": True}, [theirs.fileno(), begins.fileno()])
        return _CheckingProcess(answer["forked"], ours, begun)

    def end(self, pid: int) -> int:
        """Kill a checking process if it lives; return its status as `os.waitpid` does."""
        return int(self._order({"end": pid})["ended"])

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _order(self, order: dict[str, object], files: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], files)
        except OSError:
            raise _GoneError from None
        answer = self._answer(_START_SECONDS)
        if answer is None:
            raise _GoneError
        return answer

    def _answer(self, seconds: float) -> dict[str, Any] | None:
        """Return its next answer, None if there is none in some seconds."""
        self._socket.settimeout(seconds)
        while b"\n" not in self._received:
            try:
                received = self._socket.recv(_READ_BYTES)
            except TimeoutError:
                return None
            except OSError:
                raise _GoneError from None
            if not received:
                raise _GoneError
            self._received += received
        line, self._received = self._received.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


class _CheckingProcess:
    """One process; `look` is None while it is idle. `begun` is the pipe that says that it has begun a task.

    `deadline` (`time.monotonic`) is when it must be done. `ended`: its output is useless.
    """

    def __init__(self, pid: int, connection: socket.socket, begun: FileIO) -> None:
        self.pid, self._socket, self._begun = pid, connection, begun
        self._socket.setblocking(False)
        os.set_blocking(begun.fileno(), False)
        self._unsent = self._received = b""
        self.ended = False
        self.look: _Look | None = None
        self.deadline = _NEVER

    def register(self, poll: select.poll) -> None:
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def give(self, look: _Look, task: Task) -> None:
        longest = _START_SECONDS + _WALL_SECONDS + _WALL_SECONDS_PER_SECOND * look.seconds
        self.look, self.deadline = look, time.monotonic() + longest
        message = {"id": look.index, "seconds": look.seconds, **task}
        self._unsent = json.dumps(message).encode() + b"\n"
        self.send()

    def be_idle(self) -> None:
        """Wait for another task."""
        self.has_begun()
        self.look, self.deadline = None, _NEVER

    def has_begun(self) -> bool:
        """Say whether it has begun a task since the last call."""
        return bool(self._begun.read(_READ_BYTES))

    def send(self) -> None:
        """Send what the socket takes now. A broken one is noticed where results are read."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._unsent = b""

    def receive(self) -> Iterator[dict[str, Any]]:
        """Yield the messages that have come."""
        try:
            while data := self._socket.recv(_READ_BYTES):
                self._received += data
            self.ended = True
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True
        *lines, self._received = self._received.split(b"\n")
        yield from map(json.loads, lines)

    def close(self) -> None:
        self._socket.close()
        self._begun.close()
