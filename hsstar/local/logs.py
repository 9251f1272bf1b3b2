"""The logs of a home: those of its servers, supervisor and workers."""

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from hsstar.domain.errors import NotFoundError
from hsstar.domain.suggestions import did_you_mean

_SUFFIX = ".log"


def find_logs(folder: Path, name: str | None = None) -> dict[str, Path]:
    """Return the logs of a folder by the names of their processes, or the one of this name.

    A name may have its `@host` or lack it. Raise NotFoundError without a log.
    """
    logs = {file.name.removesuffix(_SUFFIX): file for file in sorted(folder.glob(f"*{_SUFFIX}"))}
    if not logs:
        raise NotFoundError(f"{folder} holds no log; hsstar up and hsstar worker write some")
    if name is None:
        return logs
    if name in logs:
        return {name: logs[name]}
    short = name.partition("@")[0]
    chosen = {known: file for known, file in logs.items() if short == known.partition("@")[0]}
    if not chosen:
        known = ", ".join(logs)
        raise NotFoundError(f"there is no log of {name!r} (logs: {known}){did_you_mean(name, logs)}")
    return chosen


class LogReader:
    """Reads a log's last lines, then those that are added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def last_lines(self, count: int) -> list[str]:
        """Return the last lines, and remember where they end."""
        return list(deque(self.new_lines(), maxlen=count))

    def new_lines(self) -> Iterator[str]:
        """Yield the whole lines that were added since; a log that was shortened begins anew."""
        try:
            with self._path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset = 0
                file.seek(self._offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        return  # its end is still to come
                    self._offset += len(line)
                    yield line.decode("utf-8", "replace").rstrip("\r\n")
        except FileNotFoundError:
            self._offset = 0  # renamed a moment ago; the next one begins anew
