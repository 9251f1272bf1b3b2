"""Small files that processes share: locks, and JSON that no reader sees half written."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hsstar.checkpoints.disk_space import bytes_text, disk_space
from hsstar.domain.errors import ConflictError, LocalStackError

LEAST_FREE_BYTES = 200 * 1000 * 1000


@contextmanager
def locked(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock file, at most until death; raise ConflictError if another has it after `seconds`."""
    deadline = time.monotonic() + seconds
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise ConflictError(
                        f"another process works there and holds {path}; wait for it"
                    ) from error
                time.sleep(0.05)
        yield


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file aside, then rename it into place; only its owner may read it."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    aside.touch(mode=0o600)
    with aside.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def read_json(path: Path) -> Any:
    """Read the JSON in a file; None if there is no file or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise LocalStackError(
            f"cannot read {path}: {error.strerror}; does it belong to another user?"
        ) from error


def check_room(path: Path) -> None:
    """Raise LocalStackError if the file system of this folder, which need not exist yet, is nearly full."""
    space = disk_space(path)
    if space.free < LEAST_FREE_BYTES:
        raise LocalStackError(
            f"{space.folder} has {bytes_text(space.free)} free and the local stack needs "
            f"{bytes_text(LEAST_FREE_BYTES)}; make room there, or set HSSTAR_HOME (for the servers' "
            "data alone: HSSTAR_SERVER_DIR) to another disk"
        )
