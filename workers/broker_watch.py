"""Whether this worker hears the broker; while it does not, it says so where users look."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker.consumer.connection import Connection

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError

log = logging.getLogger("hsstar.worker")

_PATIENCE_SECONDS = 4.0
"""A broker that is back sooner is worth a line of Celery's in the log, and no note."""


class BrokerWatch:
    """Knows from Celery's consumer when a connection begins and ends, and takes a note of a long silence."""

    def __init__(
        self,
        app: Celery,
        address: BrokerAddress,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._note = note
        self._clock = clock
        self._connected = threading.Event()
        self._silent_since = clock()
        self._noted = False
        app.steps["consumer"].add(_step(self))

    def connected(self) -> None:
        """The consumer has a connection."""
        self._connected.set()

    def lost(self) -> None:
        """The consumer has no connection any more."""
        self._silent_since = self._clock()
        self._connected.clear()

    def look(self) -> None:
        """Takes a note when the silence has become long, and another one at its end."""
        if self._connected.is_set():
            if self._noted:
                self._noted = False
                self._say(f"the broker {self._address.shown} answers again")
        elif not self._noted and self._clock() - self._silent_since > _PATIENCE_SECONDS:
            self.explain()

    def explain(self) -> None:
        """Takes a note of why the broker cannot be used, if it cannot."""
        try:
            self._address.check()
        except BrokerError as error:
            self._noted = True
            self._say(f"{error}; it is tried again, with pauses of up to 32 s")

    def _say(self, text: str) -> None:
        log.warning("%s", text)
        self._note(text)


def _step(watch: BrokerWatch) -> type[bootsteps.StartStopStep]:
    """A part of Celery's consumer that starts after the connection and stops with it."""

    class Watched(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = (Connection,)

        def start(self, parent: Any) -> None:
            watch.connected()

        def stop(self, parent: Any) -> None:
            watch.lost()

    return Watched
