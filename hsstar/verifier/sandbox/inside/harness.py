"""Serve the process outside: run programs with an input, or keep one and call its functions.

Nothing here knows what a program should return: expected outputs stay outside, and the tests that hold
expected values run in a sandbox of their own (`tests`). So a program that takes this process over can answer
nothing that it could not have returned.
"""

import json
import os
import signal
import sys
from contextlib import suppress
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector

from hsstar.verifier.sandbox.inside import filters, probe
from hsstar.verifier.sandbox.inside.channel import Channel, Message
from hsstar.verifier.sandbox.inside.program import LoadedProgram, run_as_main
from hsstar.verifier.sandbox.inside.tests import run_tests

_READ_BYTES = 1 << 16
_LONGEST_ERROR = 4_000
_WAIT_SECONDS = 0.05


def main() -> None:
    """Answer messages until the channel ends. Limits are the JSON of the first argument."""
    limits: dict[str, int] = json.loads(sys.argv[1])
    output_bytes = limits.pop("output_bytes")
    channel = Channel()
    interfaces = probe.network_interfaces() if "--probe" in sys.argv else []
    filters.limit_resources(**limits)
    filters.refuse_system_calls()
    channel.send({"ready": True})
    loaded: LoadedProgram | None = None
    while (message := channel.receive()) is not None:
        match message:
            case {"op": "run"}:
                channel.send(_run(message, output_bytes, channel))
            case {"op": "load"}:
                loaded = LoadedProgram()
                channel.send(loaded.load(message["sources"]))
            case {"op": "call" | "get"} if loaded is not None:
                channel.send(loaded.answer(message))
            case {"op": "test"}:
                channel.send(run_tests(message, channel))
            case {"op": "probe"}:
                channel.send(probe.facts(limits["processes"]) | {"interfaces": interfaces})


def _run(message: Message, output_bytes: int, channel: Channel) -> Message:
    """Run a program as a process of its own; return its exit code, output and errors."""
    (its_input, ours), (output, theirs), (errors, its_errors) = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        channel.close()
        for standard, end in enumerate((its_input, theirs, its_errors)):
            os.dup2(end, standard)
        os.closerange(3, 128)
        run_as_main(message["program"])
    for end in (its_input, theirs, its_errors):
        os.close(end)
    exchange = _Exchange(ours, message["input"].encode(), output, errors, output_bytes)
    code: int | None = None
    while code is None and not exchange.is_too_much:
        is_open = exchange.step()
        ended, status = os.waitpid(child, os.WNOHANG if is_open else 0)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            exchange.step()  # what it wrote last; what it left behind may hold the pipes open
    exchange.close()
    _end_all_others()
    if exchange.is_too_much:
        return {"too_much_output": True}
    written, complaints = (
        bytes(held).decode(errors="replace") for held in (exchange.output, exchange.errors)
    )
    return {"exit": code, "output": written, "errors": complaints}


class _Exchange:
    """Writes the input of a program, and reads its output and errors."""

    def __init__(self, into: int, sent: bytes, output: int, errors: int, most: int) -> None:
        self._into, self._rest, self._most = into, memoryview(sent), most
        self.output, self.errors = bytearray(), bytearray()
        self._held = {output: self.output, errors: self.errors}
        self._open = {into, output, errors}
        self._selector = DefaultSelector()
        for end in self._open:
            os.set_blocking(end, False)
            self._selector.register(end, EVENT_WRITE if end == into else EVENT_READ)

    @property
    def is_too_much(self) -> bool:
        return len(self.output) > self._most

    def step(self) -> bool:
        """Move what can be moved, or wait a moment; return whether output or errors are still open."""
        for key, _ in self._selector.select(_WAIT_SECONDS) if self._open else ():
            if key.fd == self._into:
                self._write()
            else:
                self._read(key.fd)
        return not self._open.isdisjoint(self._held)

    def close(self) -> None:
        for end in list(self._open):
            self._close(end)
        self._selector.close()

    def _write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._into, self._rest[:_READ_BYTES]) :]
        except BrokenPipeError:
            self._rest = self._rest[:0]
        if not self._rest:
            self._close(self._into)

    def _read(self, end: int) -> None:
        """Read until it is empty, ended or too much."""
        while not self.is_too_much:
            try:
                piece = os.read(end, _READ_BYTES)
            except BlockingIOError:
                return
            if not piece:
                self._close(end)
                return
            self._held[end] += piece
            del self.errors[:-_LONGEST_ERROR]

    def _close(self, end: int) -> None:
        self._selector.unregister(end)
        self._open.remove(end)
        os.close(end)


def _end_all_others() -> None:
    """End what a program has left behind; the first process of the sandbox collects it."""
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
