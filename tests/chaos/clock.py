"""A clock for the processes of a stack, by libfaketime (Debian: faketime)."""

import ctypes
import os
import threading
import time
from pathlib import Path

LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
MENDED = Path(__file__).parent / "clocked"
"""A folder for PYTHONPATH, whose module mends Python under the library."""
_SHARED = Path("/dev/shm")
_LIBC = ctypes.CDLL(None)
_LIBC.sem_open.restype = ctypes.c_void_p


class Clock:
    """What makes a process read its clock from a file."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._name = f"{folder.name}-clock"
        self.set(0)
        # the library makes a semaphore for each process, which it cannot open after a change of its account
        self._semaphore, self._memory = _SHARED / f"sem.{self._name}", _SHARED / self._name
        self._taken = ctypes.c_void_p(_LIBC.sem_open(f"/{self._name}".encode(), os.O_CREAT, 0o666, 1))
        self._memory.write_bytes(bytes(4096))
        for file in (self._semaphore, self._memory):
            file.chmod(0o666)
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._give_back, daemon=True)
        self._watch.start()

    def _give_back(self) -> None:
        """Give the semaphore back for who was killed while it read its clock: nobody reads it so long."""
        while not self._ended.wait(0.2):
            looks = 0
            while self.is_taken() and looks < 25:
                looks += 1
                time.sleep(0.02)
            if looks == 25:
                _LIBC.sem_post(self._taken)

    def is_taken(self) -> bool:
        """Whether a process reads its clock at this moment, which the others wait for."""
        value = ctypes.c_int()
        _LIBC.sem_getvalue(self._taken, ctypes.byref(value))
        return value.value == 0

    def take(self) -> None:
        """Take the semaphore, as a process does that reads its clock."""
        _LIBC.sem_wait(self._taken)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that has this clock."""
        return {
            "LD_PRELOAD": str(LIBRARY),
            "PYTHONPATH": str(MENDED),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_SHARED": f"/{self._name} /{self._name}",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_CACHE_DURATION": "1",
        }

    def set(self, seconds: int) -> None:
        """Let it be so many seconds off."""
        self._file.write_text(f"{seconds:+d}s")

    def close(self) -> None:
        """Remove what the processes share."""
        self._ended.set()
        self._watch.join()
        self._semaphore.unlink()
        self._memory.unlink()
