"""Waiting for what threads and other processes bring about."""

import signal
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def hear_signals() -> None:
    """For a child, before its program: background jobs of a shell ignore Ctrl-C, those of `nohup` SIGHUP."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for(
    condition: Callable[[], Found | None],
    seconds: float = 60.0,
    what: str | Callable[[], str] = "the condition",
) -> Found:
    """Wait until a condition is true, and return its value; `what` says in a failure what did not happen."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() >= end:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {seconds:g} s in vain: {text}")
        time.sleep(0.02)
    return found
