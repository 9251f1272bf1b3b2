"""A way to the database that can be cut."""

import contextlib
import select
import socket
import threading
import time
from pathlib import Path

_BLOCK = 1 << 16


class Proxy:
    """Passes connections on from one Unix socket to another, until it is told not to.

    While it is `silent` nothing passes and nobody is told; `refuse` closes what is open and takes nothing
    new.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path, self.target = path, target
        self.silent = threading.Event()
        self._ended = threading.Event()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._listener = self._listen()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _listen(self) -> socket.socket:
        self.path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(64)
        listener.setblocking(False)  # who was waiting when `accept` replaced it may be gone
        return listener

    def refuse(self) -> None:
        """Closes every connection; new ones find nobody until `accept`."""
        self.path.unlink(missing_ok=True)
        for pair in list(self._pairs):
            self._drop(pair)

    def accept(self) -> None:
        before, self._listener = self._listener, self._listen()
        before.close()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        self.refuse()
        self._listener.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            if self.silent.is_set():
                time.sleep(0.02)
                continue
            ends = {end: pair for pair in list(self._pairs) for end in pair}
            with contextlib.suppress(OSError, ValueError):  # closed by `refuse` or `accept` meanwhile
                listener = self._listener
                readable, _, _ = select.select([listener, *ends], [], [], 0.05)
                for end in readable:
                    if end is listener:
                        self._connect(listener)
                    elif end in ends:
                        self._pass_on(end, ends[end])

    def _connect(self, listener: socket.socket) -> None:
        pair = listener.accept()[0], socket.socket(socket.AF_UNIX)
        self._pairs.append(pair)
        try:
            pair[1].connect(str(self.target))
        except OSError:  # the database itself is away
            self._drop(pair)

    def _pass_on(self, end: socket.socket, pair: tuple[socket.socket, socket.socket]) -> None:
        other = pair[1] if end is pair[0] else pair[0]
        with contextlib.suppress(OSError):
            if data := end.recv(_BLOCK):
                other.sendall(data)
                return
        self._drop(pair)

    def _drop(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with contextlib.suppress(ValueError):
            self._pairs.remove(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
