"""Locks that live as long as the processes that hold them, and say where these are.

A pid means nothing on another host or in another container. So who works in a folder holds a lock there,
and writes into it where and since when. The kernel frees it with the last process that has it open.
"""

import fcntl
import json
import os
import socket
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")
_TRY_SECONDS = 0.5  # a reader holds a free lock for a moment


@dataclass(frozen=True)
class Holder:
    """Where the processes that hold a lock are, and since when (UTC)."""

    host: str
    boot: str  # the kernel's id of this boot; empty where there is none
    namespace: str  # in which their pids count; empty where there are none
    since: str

    @classmethod
    def now(cls) -> "Holder":
        """Return this process as a holder."""
        boot = namespace = ""
        with suppress(OSError):
            boot = _BOOT.read_text().strip()
            namespace = str(_NAMESPACE.readlink())
        since = datetime.now(UTC).isoformat(" ", "seconds").partition("+")[0]
        return cls(socket.gethostname(), boot, namespace, f"{since} UTC")

    @property
    def is_here(self) -> bool:
        """Whether its pids are those that this process sees."""
        here = Holder.now()
        return self.process_space == here.process_space

    @property
    def process_space(self) -> str:
        """Name where its pids count: the boot of a machine, and the PID namespace."""
        return f"{self.boot or self.host} {self.namespace}"

    def __str__(self) -> str:
        return f"on {self.host} since {self.since}"


def hold(path: Path, seconds: float = _TRY_SECONDS) -> int | None:
    """Take the lock; return a descriptor for the processes that shall hold it, None if others hold it.

    The lock is free when the last process that has inherited the descriptor has ended.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(descriptor)
                return None
            time.sleep(0.02)
        except BaseException:
            os.close(descriptor)
            raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(asdict(Holder.now())).encode(), 0)
    return descriptor


def holder(path: Path) -> Holder | None:
    """Return who holds the lock; None if nobody does, whatever the file says of earlier holders."""
    deadline = time.monotonic() + _TRY_SECONDS
    while True:
        try:
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except FileNotFoundError:
            return None
        except BlockingIOError:
            with suppress(ValueError, TypeError):  # it has just been taken
                return Holder(**json.loads(path.read_bytes()))
        if time.monotonic() > deadline:
            return Holder("an unknown host", "", "", "an unknown time")
        time.sleep(0.02)
