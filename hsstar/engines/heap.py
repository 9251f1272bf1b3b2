"""The heap of a process that trains on a CPU: freed memory stays, because the next step needs it again.

glibc returns large blocks to the kernel when they are freed, and the kernel clears every page of the next
ones: a quarter of the time of a training whose logits fill hundreds of megabytes.
"""

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # mallopt(3)
_LARGEST_THRESHOLD = 32 << 20  # which glibc reaches by itself when large blocks are freed
_MOST_BLOCKS = 65_536
_OWN_SETTINGS = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TRIM_THRESHOLD_",
    "GLIBC_TUNABLES",
)


def share_one_heap() -> None:
    """Let threads that start from now on use the main thread's heap: glibc's others hold no large blocks."""
    if libc := _glibc():
        libc.mallopt(_ARENA_MAX, 1)


@contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep the memory that is freed meanwhile, and return it to the system at the end.

    The user's own settings of glibc take precedence. Other C libraries decide for themselves.
    """
    libc = _glibc()
    if libc is None or any(map(os.environ.get, _OWN_SETTINGS)):
        yield
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, -1)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_MAX, _MOST_BLOCKS)
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_THRESHOLD)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_THRESHOLD)
        gc.collect()
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
