"""Tells users when this worker has no connection to the broker: in its log and its note."""

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

_QUIET_SECONDS = 4.0
"""A shorter loss of the connection gets no note; Celery logs it."""


class BrokerWatch:
    """Follows the connection of Celery's consumer and notes a long loss."""

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
        self._lost_since = clock()
        self._noted = False
        app.steps["consumer"].add(_step(self))

    def connected(self) -> None:
        """Record that the consumer has a connection."""
        self._connected.set()

    def lost(self) -> None:
        """Record that the consumer has lost its connection."""
        self._lost_since = self._clock()
        self._connected.clear()

    def look(self) -> None:
        """Note a long loss of the connection, and later its end."""
        if self._connected.is_set():
            if self._noted:
                self._noted = False
                self._say(f"the broker {self._address.shown} answers again")
        elif not self._noted and self._clock() - self._lost_since > _QUIET_SECONDS:
            self.explain()

    def explain(self) -> None:
        """Note why the broker cannot be used, if it cannot."""
        try:
            self._address.check()
        except BrokerError as error:
            self._noted = True
            self._say(f"{error}; it is tried again, with pauses of up to 32 s")

    def _say(self, text: str) -> None:
        log.warning("%s", text)
        self._note(text)


def _step(watch: BrokerWatch) -> type[bootsteps.StartStopStep]:
    class Watched(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        requires = (Connection,)

        def start(self, parent: Any) -> None:
            watch.connected()

        def stop(self, parent: Any) -> None:
            watch.lost()

    return Watched
