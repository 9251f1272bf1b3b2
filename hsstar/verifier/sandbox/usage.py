"""What the processes of a sandbox use, seen from outside: nothing in it can forge or hide that."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and all below it have used.

    `waiting_seconds`: how long their threads wanted a processor and had none; ended threads do not count.
    """

    cpu_seconds: float  # of ended processes too
    memory_bytes: int  # of their own, and shared between them
    waiting_seconds: float


def usage_of(process: int) -> Usage:
    """Return what a process and all below it use; nothing if it is gone."""
    cpu = memory = waiting = 0
    for one in _with_all_below(process):
        try:
            # behind the name, which may hold spaces: state is the third field of proc(5)
            fields = Path(f"/proc/{one}/stat").read_text(errors="replace").rpartition(")")[2].split()
            status = Path(f"/proc/{one}/status").read_text(errors="replace")
        except OSError:
            continue
        cpu += sum(map(int, fields[11:15]))
        waiting += sum(map(_waiting, _threads(one)))
        memory += sum(
            int(line.split()[1]) << 10
            for line in status.splitlines()
            if line.startswith(("RssAnon:", "RssShmem:"))
        )
    return Usage(cpu / _TICKS, memory, waiting / 1e9)


def _with_all_below(process: int) -> Iterator[int]:
    yield process
    for thread in _threads(process):
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _with_all_below(int(child))


def _threads(process: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return []


def _waiting(thread: Path) -> int:
    """Return the nanoseconds that a thread has waited for a processor; 0 where the kernel does not say."""
    try:
        return int((thread / "schedstat").read_text().split()[1])
    except (OSError, IndexError):
        return 0
