"""The processes of a `CheckingPool`: the warm one, and those that it forks."""

import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from hsstar.domain.errors import EngineError, MissingDependencyError

Task = Mapping[str, Any]

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
_FIXED = {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
"""The order of sets is the same in all, so that what depends on it is decided alike."""
_START_SECONDS = 300.0
_FORK_SECONDS = 5.0
_WALL_SECONDS, _WALL_SECONDS_PER_SECOND = 60.0, 200.0
"""A task that gets less than a two-hundredth of a processor for so long hangs."""
_NEVER = float("inf")
LONGEST_WAIT_SECONDS = 0.5
_READ_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """What checking processes load and may use."""

    module: str
    """Its function `load(setup)` returns what answers a task (`process.AnswerTask`)."""
    setup: Mapping[str, Any]
    loads: str
    """What that loads, in words."""
    processes: int
    deadline_seconds: float
    """Processor time of one task."""
    memory_limit_mb: int
    """Address space of one process in MiB."""
    one_task_each: bool = False
    """Give every task a process of its own, so that nothing it changes reaches another."""
    wall_factor: float | None = None
    """End a task also after so many times the deadline by the clock; None: when it hardly runs at all."""
    start_seconds: float = _START_SECONDS
    """How long loading may take."""

    @property
    def command(self) -> list[str]:
        """The command of the warm process."""
        return [sys.executable, "-P", "-m", "hsstar.verifier.process", str(self.memory_limit_mb), self.module]

    def longest_seconds(self, processor_seconds: float) -> float:
        """Return how long a task may take by the clock."""
        if self.wall_factor is not None:
            return _FORK_SECONDS + self.wall_factor * processor_seconds
        return _START_SECONDS + _WALL_SECONDS + _WALL_SECONDS_PER_SECOND * processor_seconds


@dataclass(frozen=True, slots=True)
class Look:
    """A look at the task of an index, for some seconds of processor time."""

    index: int
    seconds: float
    is_last: bool


def _environment() -> dict[str, str]:
    """What a program needs to run: none of our settings, and no secret of the user."""
    return {name: os.environ[name] for name in _NEEDED if name in os.environ}


class GoneError(Exception):
    """The warm process has died, or does not answer."""


class WarmProcess:
    """The process that forks checking processes, and alone can end them without mistaking one for another."""

    def __init__(self, options: PoolOptions) -> None:
        self._options = options
        module_path = os.pathsep.join(
            path or str(Path.cwd()) for path in sys.path
        )  # the same modules as here
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                options.command,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_environment() | _FIXED | {"PYTHONPATH": module_path},
            )
        with suppress(OSError):  # it is gone: `is_ready` says so
            self._socket.sendall(json.dumps(options.setup).encode() + b"\n")
        self._received = b""
        self._ready = False
        self._deadline = time.monotonic() + options.start_seconds

    def is_ready(self) -> bool:
        """Say whether it has loaded the libraries, which it may do now for half a second."""
        if not self._ready:
            match self._answer(LONGEST_WAIT_SECONDS):
                case {"ready": True}:
                    self._ready = True
                case {"failed": reason}:
                    raise MissingDependencyError(
                        f"the checking process cannot load {self._options.loads}: {reason}"
                    )
                case None if time.monotonic() >= self._deadline:
                    seconds = self._options.start_seconds
                    raise EngineError(
                        f"the checking process cannot load {self._options.loads}: "
                        f"it takes more than {seconds:g} s"
                    )
        return self._ready

    def fork(self) -> "CheckingProcess":
        """Return a new checking process."""
        ours, theirs = socket.socketpair()
        begun, begins = map(FileIO, os.pipe(), ("rb", "wb"))
        with theirs, begins:
            answer = self._order({"fork": True}, [theirs.fileno(), begins.fileno()])
        return CheckingProcess(self._options, answer["forked"], ours, begun)

    def end(self, pid: int) -> int:
        """Kill a checking process if it lives; return its status as `os.waitpid` does."""
        return int(self._order({"end": pid})["ended"])

    def kill(self) -> None:
        """Kill it, and with it all that it has forked."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def _order(self, order: dict[str, object], files: Sequence[int] = ()) -> dict[str, Any]:
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], files)
        except OSError:
            raise GoneError from None
        answer = self._answer(_START_SECONDS)
        if answer is None:
            raise GoneError
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
                raise GoneError from None
            if not received:
                raise GoneError
            self._received += received
        line, self._received = self._received.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


class CheckingProcess:
    """One process; `look` is None while it is idle. `begun` is the pipe that says that it has begun a task.

    `deadline` (`time.monotonic`) is when it must be done. `ended`: its output is useless.
    """

    def __init__(self, options: PoolOptions, pid: int, connection: socket.socket, begun: FileIO) -> None:
        self._options = options
        self.pid, self._socket, self._begun = pid, connection, begun
        self._socket.setblocking(False)
        os.set_blocking(begun.fileno(), False)
        self._unsent = self._received = b""
        self.ended = False
        self.look: Look | None = None
        self.deadline = _NEVER

    def register(self, poll: select.poll) -> None:
        """Let a poll wait for what it sends, or for room to send it something."""
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))

    def give(self, look: Look, task: Task) -> None:
        """Give it a task."""
        self.look = look
        self.deadline = time.monotonic() + self._options.longest_seconds(look.seconds)
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

    def receive(self) -> Iterator[object]:
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
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:  # the code that it runs wrote into its channel
                self.ended = True

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
        self._begun.close()
