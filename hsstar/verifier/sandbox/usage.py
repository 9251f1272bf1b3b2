"""What the processes of a sandbox use, seen from outside: nothing in it can forge or hide that."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds of a process and all below it, ended ones included, and bytes of their own memory."""

    cpu_seconds: float
    memory_bytes: int


def usage_of(process: int) -> Usage:
    """Return what a process and all below it use; nothing if it is gone."""
    cpu, memory = 0, 0
    for one in _with_all_below(process):
        try:
            # behind the name, which may hold spaces: state is the third field of proc(5)
            fields = Path(f"/proc/{one}/stat").read_text(errors="replace").rpartition(")")[2].split()
            status = Path(f"/proc/{one}/status").read_text(errors="replace")
        except OSError:
            continue
        cpu += sum(map(int, fields[11:15]))
        memory += sum(
            int(line.split()[1]) << 10
            for line in status.splitlines()
            if line.startswith(("RssAnon:", "RssShmem:"))
        )
    return Usage(cpu / _TICKS, memory)


def _with_all_below(process: int) -> Iterator[int]:
    yield process
    try:
        threads = list(Path(f"/proc/{process}/task").iterdir())
    except OSError:
        return
    for thread in threads:
        try:
            children = (thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _with_all_below(int(child))
