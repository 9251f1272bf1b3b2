"""The warm process, and the checking processes that it forks. They talk in JSON, one object a line.

The parent starts `python -m hsstar.verifier.process MEMORY_LIMIT_MB MODULE` with a socket as standard input,
and sends one object: what the function `load` of the module gets. The warm process calls it, says
`{"ready": true}` or `{"failed": reason}`, and then answers one order at a time. A module with
`ON_MAIN_THREAD` answers its tasks there:

- `{"fork": true}`, which comes with the socket of a new process and the end of a pipe: `{"forked": pid}`;
- `{"end": pid}`, which kills that process if it lives: `{"ended": status}`, as `os.waitpid` gives it.

A checking process gets its tasks by its own socket: `{"id": n, "seconds": s, …}`; the module says what else.
It writes a byte to the pipe when it begins a task, and answers `{"id": n, "outcome": text}`. Whatever a task
does, the kernel ends its process by SIGPROF after `s` seconds of processor time.
"""

import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

RECURSION_LIMIT = 3_000
_THREAD_STACK_BYTES = 64 << 20
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_ORDER_BYTES = 1 << 10
_SETUP_BYTES = 1 << 16
AnswerTask = Callable[[dict[str, Any]], str]
"""Returns the outcome of a task."""


def main(memory_limit_mb: int, module: str) -> None:
    """Fork checking processes until the parent is gone."""
    parent = socket.socket(fileno=os.dup(0))
    os.dup2(1, 0)  # no process inherits the socket as its standard input
    _set_signals()
    _die_with_parent()
    _adopt_orphans()
    _limit_resources(memory_limit_mb)
    setup = _first_line(parent)
    gc.disable()  # what is loaded stays: looking for garbage meanwhile takes a tenth of the time
    try:
        loaded = importlib.import_module(module)
        check = partial(
            _check, answer_task=loaded.load(setup), on_main_thread=getattr(loaded, "ON_MAIN_THREAD", False)
        )
    except BaseException as error:  # the user's own code raises anything
        _send(parent, {"failed": f"{type(error).__name__}: {error}"})
        return
    gc.collect()
    gc.freeze()  # the processes share this memory until they write to it
    gc.enable()
    _end_all_with_parent()
    _send(parent, {"ready": True})
    living: set[int] = set()
    while (received := socket.recv_fds(parent, _ORDER_BYTES, 2))[0]:
        match json.loads(received[0]):
            case {"end": pid}:
                os.kill(pid, signal.SIGKILL)
                status = os.waitpid(pid, 0)[1]
                living.discard(pid)
                _end_orphans(living)
                _send(parent, {"ended": status})
            case {"fork": True}:
                forked = _fork(parent, received[1], check)
                living.add(forked)
                _send(parent, {"forked": forked})


def _adopt_orphans() -> None:
    """Let the kernel give the processes that a task leaves behind to this one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_orphans(living: set[int]) -> None:
    """Kill what ended tasks have left behind, and what that has started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while children.exists() and (orphans := {*map(int, children.read_text().split())} - living):
        for pid in orphans:
            with suppress(ProcessLookupError, ChildProcessError):  # this call may interrupt another one
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _end_all_with_parent() -> None:
    """When the parent dies, end what tasks have started, and then this process.

    Until here the kernel alone ends it: what it loads may hang.
    """
    warm_process, parent = os.getpid(), os.getppid()

    def end(number: int, frame: object) -> None:
        if os.getpid() == warm_process:
            _end_orphans(set())
        os._exit(1)

    signal.signal(signal.SIGHUP, end)
    _die_with_parent(signal.SIGHUP)
    if os.getppid() != parent:
        os._exit(1)  # it died before the kernel knew


def _first_line(parent: socket.socket) -> Any:
    received = b""
    while not received.endswith(b"\n"):
        if not (part := parent.recv(_SETUP_BYTES)):
            sys.exit(1)
        received += part
    return json.loads(received)


def _fork(parent: socket.socket, ends: list[int], check: Callable[[socket.socket, int], NoReturn]) -> int:
    warm_process = os.getpid()
    pid = os.fork()
    if not pid:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        parent.close()
        _die_with_parent()
        if os.getppid() != warm_process:
            os._exit(1)  # it died before the kernel knew
        connection, begun = ends
        check(socket.socket(fileno=connection), begun)
    for end in ends:
        os.close(end)
    return pid


def _check(
    connection: socket.socket, begun: int, answer_task: AnswerTask, *, on_main_thread: bool
) -> NoReturn:
    """Answer tasks until the parent is gone, on a thread with a large stack unless a module wants none."""
    if on_main_thread:
        _answer_tasks(connection, begun, answer_task)
    threading.stack_size(_THREAD_STACK_BYTES)
    threading.Thread(target=_answer_tasks, args=(connection, begun, answer_task), daemon=True).start()
    while True:
        signal.pause()


def _answer_tasks(connection: socket.socket, begun: int, answer_task: AnswerTask) -> NoReturn:
    owner = os.getpid()
    os.register_at_fork(after_in_child=partial(_leave_channel, connection.fileno(), begun))
    try:
        for line in connection.makefile("rb"):
            task = json.loads(line)
            os.write(begun, b".")
            signal.setitimer(signal.ITIMER_PROF, task["seconds"])
            outcome = answer_task(task)
            if os.getpid() != owner:
                os._exit(0)  # a child that the task has forked
            signal.setitimer(signal.ITIMER_PROF, 0)
            _send(connection, {"id": task["id"], "outcome": outcome})
    finally:  # the parent is gone, or replaces this process: memory, recursion, or a bug
        os._exit(1)


def _leave_channel(*files: int) -> None:
    """Keep a child that a task forks away from the parent, and let it end with the task."""
    for file in files:
        os.close(file)
    _die_with_parent()


def _send(connection: socket.socket, message: dict[str, object]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


def _set_signals() -> None:
    """Leave the terminal's signals to the parent; let SIGPROF end a process, whatever was inherited."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGPROF])


def _die_with_parent(by: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)


def _limit_resources(memory_limit_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel refuses or ignores the limit
        limit = memory_limit_mb << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.setrecursionlimit(RECURSION_LIMIT)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
