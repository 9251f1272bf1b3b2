"""Ends a child when its parent dies, even by SIGKILL. Linux only: elsewhere the next start does it."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


def end_with_parent() -> Callable[[], None] | None:
    """To run in the child before its program: the kernel sends it SIGTERM when this process dies."""
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)  # found here, because little is safe between fork and exec
    parent = os.getpid()

    def watch() -> None:
        library.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was told
            os._exit(1)

    return watch
