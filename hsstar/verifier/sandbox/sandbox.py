"""A sandbox from outside: start it, talk with what runs in it, watch what it uses, end it."""

import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, Self

from hsstar.verifier.sandbox.namespaces import USER
from hsstar.verifier.sandbox.usage import Usage, usage_of
from hsstar.verifier.sandbox.ways import ENVIRONMENT, SandboxError, Way, inner_command, ways

Message = dict[str, Any]

_START_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_READ_BYTES = 1 << 16
_MESSAGE_BYTES = 1 << 16  # of a message beside the output that it may hold
_CPU_SECONDS = 3_600
"""The kernel's own limit for each process, in case that nobody watches."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the processes of one sandbox may use."""

    memory_mb: int = 512  # all of them together, and the address space of each
    processes: int = 32
    output_mb: int = 8
    file_mb: int = 16  # each file; /tmp holds four times as much
    cpu_seconds: float = 6.0  # for one message
    idle_seconds: float = 30.0  # for one message, by the clock, while it waits for no processor
    wall_seconds: float = 600.0  # for one message, whatever the load of the machine

    def as_arguments(self) -> str:
        """Return the limits that the harness sets for itself."""
        return json.dumps(
            {
                "memory_bytes": self.memory_mb << 20,
                "processes": self.processes,
                "output_bytes": self.output_mb << 20,
                "file_bytes": self.file_mb << 20,
                "cpu_seconds": _CPU_SECONDS,
            }
        )


class End(Enum):
    """Why a sandbox gives no answer."""

    CPU = "used all of its processor time"
    IDLE = "did nothing"
    WALL = "did not end in time"
    MEMORY = "used more memory than it may"
    OUTPUT = "wrote more than it may"
    LEFT = "ended its process"


class EndedError(Exception):
    """The program in the sandbox is over before it has answered; `how` is why."""

    def __init__(self, how: End, text: str) -> None:
        super().__init__(text)
        self.how = how


class Sandbox:
    """A process in a sandbox, which answers messages; use it from one thread.

    `ended` is called when it is closed. Raise SandboxError if it does not start.
    """

    def __init__(
        self, way: Way, limits: Limits, *options: str, ended: "Callable[[Sandbox], None] | None" = None
    ) -> None:
        self._limits = limits
        self._ended = ended
        self._most = (limits.output_mb << 20) * 6 + _MESSAGE_BYTES  # JSON writes up to six bytes for one
        inner = inner_command(limits.as_arguments(), *options)
        try:
            self._process = subprocess.Popen(
                way.command(inner, limits.file_mb << 22),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd="/",
                bufsize=0,
                **way.options,
            )
        except OSError as error:
            raise SandboxError(f"the sandbox ({way.name}) does not start: {error}") from None
        assert self._process.stdin and self._process.stdout and self._process.stderr  # noqa: S101  # pipes
        self._into, self._from, self._errors = self._process.stdin, self._process.stdout, self._process.stderr
        for pipe in (self._into, self._from, self._errors):
            os.set_blocking(pipe.fileno(), False)
        self._received = b""
        try:
            ready = self._answer(Usage(_CPU_SECONDS, 0, 0.0), time.monotonic() + _START_SECONDS)
        except EndedError as error:
            complaint = self._complaint()
            self.close()
            raise SandboxError(f"the sandbox ({way.name}) does not start: {complaint or error}") from None
        if ready != {"ready": True}:
            self.close()
            raise SandboxError(f"the sandbox ({way.name}) does not say that it is ready")

    def ask(self, message: Message) -> Message:
        """Send a message and return the answer; raise EndedError if the program is over before."""
        begin, since = usage_of(self._process.pid), time.monotonic()
        rest = memoryview(json.dumps(message).encode() + b"\n")
        while rest:
            self._look(begin, since)
            select.select([], [self._into], [], _LOOK_SECONDS)
            try:
                rest = rest[os.write(self._into.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                break  # the answer says why
        return self._answer(begin, since)

    def kill(self) -> None:
        """End everything in the sandbox; any thread may do so, before it is closed."""
        self._process.kill()

    def close(self) -> None:
        """End everything in the sandbox."""
        if self._ended is not None:
            self._ended(self)
        self._process.kill()
        self._process.wait()
        for pipe in (self._into, self._from, self._errors):
            pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, begin: Usage, since: float) -> Message:
        while b"\n" not in self._received:
            self._look(begin, since)
            if not select.select([self._from], [], [], _LOOK_SECONDS)[0]:
                continue
            piece = os.read(self._from.fileno(), _READ_BYTES)
            if not piece:
                raise self._left()
            self._received += piece
            if len(self._received) > self._most:
                raise EndedError(End.OUTPUT, "an answer of more bytes than may be")
        line, self._received = self._received.split(b"\n", 1)
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise EndedError(End.LEFT, "an answer that is none")
        return answer

    def _look(self, begin: Usage, since: float) -> None:
        """Raise EndedError if a limit is passed."""
        used = usage_of(self._process.pid)
        if used.memory_bytes > self._limits.memory_mb << 20:
            raise EndedError(End.MEMORY, f"used more than {self._limits.memory_mb} MiB of memory")
        if used.cpu_seconds - begin.cpu_seconds > self._limits.cpu_seconds:
            raise EndedError(End.CPU, f"used {self._limits.cpu_seconds:g} s of processor time")
        elapsed = time.monotonic() - since
        if elapsed - (used.waiting_seconds - begin.waiting_seconds) > self._limits.idle_seconds:
            raise EndedError(End.IDLE, f"did not end within {self._limits.idle_seconds:g} s")
        if elapsed > self._limits.wall_seconds:
            raise EndedError(End.WALL, f"did not get enough of a processor in {elapsed:.0f} s")

    def _left(self) -> EndedError:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_START_SECONDS)
        code = self._process.returncode
        how = f"by signal {code - 128}" if code is not None and code > 128 else f"with exit code {code}"
        return EndedError(End.LEFT, f"ended its process {how}")

    def _complaint(self) -> str:
        """Return what was written about a start that failed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
        with suppress(BlockingIOError):
            lines = os.read(self._errors.fileno(), _READ_BYTES).decode(errors="replace").split("\n")
            return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "")
        return ""


_usable: Way | None = None
_lock = threading.Lock()


def usable_way() -> Way:
    """Return the first way whose sandbox holds what it promises, tried once a process.

    Raise SandboxError, which says of each way what is missing, if there is none.
    """
    global _usable
    with _lock:
        if _usable is None:
            troubles = []
            for way in ways():
                trouble = trouble_with(way)
                if not trouble:
                    _usable = way
                    break
                troubles.append(f"{way.name}: {trouble}")
            else:
                tried = "; ".join(troubles)
                raise SandboxError(
                    f"no sandbox for programs works here ({tried}), and none runs without; "
                    "Linux 5.14 with user namespaces is needed; see docs/programs-and-judges.md"
                )
        return _usable


def trouble_with(way: Way) -> str:
    """Try a way from within; return what is missing, empty if it holds."""
    limits = Limits()
    try:
        with Sandbox(way, limits, "--probe") as sandbox:
            facts = sandbox.ask({"op": "probe"})
    except (SandboxError, EndedError) as error:
        return str(error)
    promises = {
        "a user of its own": facts["user"] == USER,
        "process numbers of its own": facts["process"] < 10,
        "a network without a way out": facts["interfaces"] in ([], ["lo"]) and not facts["internet"],
        f"hidden files (it sees {', '.join(facts['readable'])})": not facts["readable"],
        f"a read-only file system (it wrote {', '.join(facts['writable'])})": not facts["writable"],
        "a private /tmp": facts["temporary"],
        "a limit of processes": facts["forks"] < limits.processes,
        "a clean environment": not facts["secrets"],
    }
    return ", ".join(f"it has not {promise}" for promise, holds in promises.items() if not holds)
