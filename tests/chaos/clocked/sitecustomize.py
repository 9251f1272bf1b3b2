"""Python reads this at its start: under libfaketime, `time.sleep` would take a duration for a time of day."""

import select
import time


def sleep(seconds: float) -> None:
    """Wait without a clock that the library has changed."""
    select.select([], [], [], seconds)


time.sleep = sleep  # type: ignore[assignment]  # whole seconds are numbers too
