"""What can be reached from here: the process outside refuses a sandbox that is none."""

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

_OUTSIDE = ("/proc/1/environ", "/etc/passwd", "/etc/shadow", "/root", "/home", "/var", "/run", "/sys")
_ENVIRONMENT = ("PATH", "HOME", "LANG", "PWD", "PYTHONHASHSEED")
_WRITES = ("/probe", "/usr/probe", "/code/probe")


def network_interfaces() -> list[str]:
    """Return the network's interfaces; call it before system calls are refused."""
    return [name for _, name in socket.if_nameindex()]


def facts(processes: int) -> dict[str, Any]:
    """Return what this process is and can do."""
    return {
        "user": os.getuid(),
        "process": os.getpid(),
        "readable": [path for path in _OUTSIDE if _shows_anything(path)],
        "writable": [path for path in _WRITES if _can_write(path)],
        "temporary": _can_write("/tmp/probe"),  # noqa: S108  # it is the sandbox's own
        "forks": _count_forks(processes + 1),
        "internet": _has_internet_sockets(),
        "secrets": [name for name in os.environ if name not in _ENVIRONMENT],
    }


def _shows_anything(path: str) -> bool:
    """Tell whether a path shows more than the way to the interpreter."""
    if not os.path.isdir(path):  # noqa: PTH112  # keeps this small
        return os.path.exists(path)  # noqa: PTH110
    return any(not sys.executable.startswith(f"{path}/{name}/") for name in os.listdir(path))  # noqa: PTH208


def _can_write(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    except OSError:
        return False
    return True


def _has_internet_sockets() -> bool:
    try:
        socket.socket(socket.AF_INET).close()
    except OSError:
        return False
    return True


def _count_forks(most: int) -> int:
    """Return how many processes can be started at once, up to a number."""
    started = []
    try:
        for _ in range(most):
            child = os.fork()
            if not child:
                signal.pause()
            started.append(child)
    except OSError:
        pass
    for child in started:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return len(started)
