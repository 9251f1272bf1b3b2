"""A time limit for Python code that others have written, such as a chat template."""

import ctypes
import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class _TimeUpError(BaseException):
    """Is raised in the thread whose time is up."""


class _Watch:
    """Interrupts the thread that made it, once, unless it has ended by then."""

    def __init__(self, seconds: float) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._ended = self._raised = False
        self._timer = threading.Timer(seconds, self._interrupt)
        self._timer.daemon = True
        self._timer.start()

    def _interrupt(self) -> None:
        with self._lock:
            if not self._ended:
                self._raised = True
                raised = ctypes.py_object(_TimeUpError)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), raised)

    def end(self) -> None:
        with self._lock:
            self._ended = True
        self._timer.cancel()
        if self._raised:
            for _ in itertools.count():  # until the error has arrived
                pass


def within(seconds: float, work: Callable[[], Result]) -> Result:
    """Return what `work` returns; raise TimeoutError if it takes longer.

    A single operation of C code is not interrupted.
    """
    try:
        watch = _Watch(seconds)
        try:
            result = work()
        except Exception:
            watch.end()
            raise
        watch.end()
    except _TimeUpError:
        raise TimeoutError(f"it took more than {seconds:g} s") from None
    return result
