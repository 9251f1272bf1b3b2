"""Allocates and frees a large block again and again, in a thread if told so; prints page faults and memory.

A line of JSON: page faults of ten blocks before, while freed memory is kept, and afterwards; resident MiB
while it is kept and afterwards.
"""

import json
import resource
import sys
from pathlib import Path
from threading import Thread

from hsstar.engines.heap import keeping_freed_memory, share_one_heap

BLOCK = 64 << 20


def faults() -> int:
    """Page faults of ten blocks, one after the other."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(BLOCK)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident() -> int:
    """Resident memory, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def work() -> None:
    """Print the figures."""
    before = faults()
    with keeping_freed_memory():
        bytearray(BLOCK)
        kept, resident_kept = faults(), resident()
    print(json.dumps([before, kept, resident_kept, resident(), faults()]))


if __name__ == "__main__":
    share_one_heap()
    if "thread" in sys.argv:
        thread = Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
