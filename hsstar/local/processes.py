"""Processes that outlive the one that started them: identity, start and end.

A pid alone identifies no process, because the system reuses it. An identity is the pid and the moment of
birth: on Linux the kernel's count since boot and the id of that boot, which no change of the clock affects.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

POLL_SECONDS = 0.02
LONGEST_LOG_BYTES = 20 << 20
_PROC = Path("/proc")
_children: dict[int, subprocess.Popen[bytes]] = {}  # polled until they end, so that none stays a zombie


@dataclass(frozen=True)
class ProcessIdentity:
    """One process, distinct from any later one with the same pid."""

    pid: int
    birth: str


def identify(pid: int) -> ProcessIdentity | None:
    """Identify the live process with this pid; None if there is none or it is a zombie."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
    birth = _birth(pid)
    return None if birth is None else ProcessIdentity(pid, birth)


def _birth(pid: int) -> str | None:
    try:
        if (_PROC / "self/stat").exists():
            # the program's name is in parentheses and may contain blanks and parentheses
            fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
            boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
            return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except (OSError, psutil.Error):
        return None


def alive(identity: ProcessIdentity | None) -> bool:
    """Tell whether exactly this process still runs."""
    return identity is not None and identify(identity.pid) == identity


def find_processes(user_ids: set[int], belongs: Callable[[list[str]], bool]) -> list[ProcessIdentity]:
    """Return the live processes of these users whose command line `belongs` accepts."""
    return [
        identity for pid in psutil.pids() if (identity := find_process(pid, user_ids, belongs)) is not None
    ]


def find_process(
    pid: int, user_ids: set[int], belongs: Callable[[list[str]], bool]
) -> ProcessIdentity | None:
    """Return the live process with this pid if these users own it and `belongs` accepts its command."""
    identity = identify(pid)
    if identity is None:
        return None
    try:
        process = psutil.Process(pid)
        accepted = process.uids().real in user_ids and belongs(process.cmdline())
    except psutil.Error:
        return None
    return identity if accepted else None


def descendants(identity: ProcessIdentity) -> list[ProcessIdentity]:
    """Return the live children of a process, their children, and so on."""
    if not alive(identity):
        return []
    try:
        family = psutil.Process(identity.pid).children(recursive=True)
    except psutil.Error:
        return []
    return [member for child in family if (member := identify(int(child.pid))) is not None]


def send(identity: ProcessIdentity, number: signal.Signals) -> None:
    """Signal this process if it still lives."""
    if alive(identity):
        with suppress(ProcessLookupError):
            os.kill(identity.pid, number)


def wait_for_end(identities: Iterable[ProcessIdentity], seconds: float) -> list[ProcessIdentity]:
    """Wait until all have ended, at most `seconds`; return those that still live."""
    deadline = time.monotonic() + seconds
    living = [identity for identity in identities if alive(identity)]
    while living and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        living = [identity for identity in living if alive(identity)]
    return living


def stop(identities: Sequence[ProcessIdentity], grace_seconds: float, *, families: bool = False) -> None:
    """End processes: SIGTERM to all, a common grace, then SIGKILL; `families`: kill their descendants too."""
    offspring = [member for identity in identities for member in descendants(identity)] if families else []
    for identity in identities:
        send(identity, signal.SIGTERM)
    kill([*wait_for_end(identities, grace_seconds), *offspring])


def kill(identities: Sequence[ProcessIdentity]) -> None:
    """End the processes that still live by SIGKILL."""
    for identity in identities:
        send(identity, signal.SIGKILL)
    wait_for_end(identities, 5.0)


def open_log(log: Path) -> IO[bytes]:
    """Open a log file for appending; rename a long one to `<name>.1` first."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LONGEST_LOG_BYTES:
        log.replace(log.with_name(log.name + ".1"))
    return log.open("ab")


def shorten_log(log: Path) -> None:
    """Move the content of a long log to `<name>.1`, while a process appends to it; it may lose a line."""
    with suppress(FileNotFoundError):
        if log.stat().st_size > LONGEST_LOG_BYTES:
            shutil.copyfile(log, log.with_name(log.name + ".1"))
            os.truncate(log, 0)


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the argument list that runs a module; by -P no file of the working directory hides a package."""
    return [sys.executable, "-P", "-m", module, *arguments]


def start_detached(
    argv: Sequence[str],
    log: Path,
    *,
    directory: Path,
    environment: Mapping[str, str],
    inherited: Sequence[int] = (),
) -> ProcessIdentity | None:
    """Start a process that outlives this one; None if it has ended already, OSError if it cannot start.

    It has the `inherited` file descriptors too.
    """
    child = start(argv, log, directory=directory, environment=environment, inherited=inherited)
    _children[child.pid] = child
    return identify(child.pid)


def start(
    argv: Sequence[str],
    log: Path,
    *,
    directory: Path,
    environment: Mapping[str, str],
    before: Callable[[], None] | None = None,
    inherited: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process without input in a session of its own, so that its whole group can be killed.

    Its output is appended to the log; `before` runs in the child before its program.
    """
    with open_log(log) as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            start_new_session=True,
            preexec_fn=before,
            pass_fds=inherited,
        )


_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def die_with_parent() -> Callable[[], None] | None:
    """Return what a child runs before its program, so that it gets SIGTERM when this process dies."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)  # loaded here, because little is safe between fork and exec
    parent = os.getpid()

    def ask_kernel() -> None:
        library.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # the parent died before the call
            os._exit(1)

    return ask_kernel
