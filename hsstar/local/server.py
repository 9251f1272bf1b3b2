"""What the embedded servers have in common: folders, start and stop."""

import os
import re
import signal
import socket
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from hsstar.domain.errors import ConflictError, LocalStackError
from hsstar.domain.urls import without_secrets
from hsstar.local import holders, places, processes
from hsstar.local.accounts import Account, account_for
from hsstar.local.files import check_room, locked
from hsstar.local.holders import Holder
from hsstar.local.places import Places
from hsstar.local.processes import ProcessIdentity

START_SECONDS = 120.0  # recovery after a crash included
SOCKET_SECONDS = 5.0  # within which a server that was started a moment ago has its socket
LOCK_SECONDS = 150.0
ORPHAN_SECONDS = 5.0  # for processes that a killed server left
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True)
class ServerStatus:
    """An embedded server as it is now."""

    name: str
    pid: int | None  # None: it does not run
    url: str
    directory: Path

    @property
    def shown_url(self) -> str:
        """The URL without its secrets."""
        return without_secrets(self.url)


@dataclass(frozen=True)
class Start:
    """A start of a server that has begun."""

    identity: ProcessIdentity | None  # None: its process ended at once
    log_offset: int  # where its log was before, in bytes
    deadline: float  # on the monotonic clock


class EmbeddedServer(ABC):
    """A server that listens on a Unix socket only and outlives the process that started it.

    `home` names the stack. The data are where the home records it; before the first start that is
    `<server_root>/<hash of home>`, without a `server_root` `home/servers`, for root
    /var/lib/hsstar/<hash of home>. The server holds a lock there as long as one of its processes lives.
    """

    name: ClassVar[str]
    stop_signals: ClassVar[Sequence[tuple[signal.Signals, float]]]  # each with its seconds
    failure_hint: ClassVar[str] = ""

    def __init__(self, home: Path, server_root: Path | None = None, runtime_dir: Path | None = None):
        self.home = home.absolute()
        self.places = Places.find(home, server_root)
        self.label = self.places.label
        self.root = self.places.root
        self.directory = self.places.folder / self.name
        self.data = self.directory / "data"
        self._runtime_dir = runtime_dir
        self._running_lock = self.directory / "running.lock"
        self.log = self.home / "logs" / f"{self.name}.log"

    @cached_property
    def account(self) -> Account:
        """The account that runs the server; looked up late, because an external server needs none."""
        return account_for(self.data)

    @cached_property
    def socket_directory(self) -> Path:
        """The private folder of the server's socket."""
        return self.places.sockets or places.socket_directory(self.label, self.account, self._runtime_dir)

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL for clients."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """The file whose first line is the server's pid."""

    @property
    @abstractmethod
    def remains(self) -> Sequence[Path]:
        """Files that a killed server leaves and that hinder the next."""

    @abstractmethod
    def belongs(self, command_line: list[str]) -> bool:
        """Tell whether this is the command line of this server or of one of its children."""

    @abstractmethod
    def initialise(self) -> None:
        """Make the data directory if it is missing, and write the configuration."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the argument list that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether the running server answers."""

    @property
    @abstractmethod
    def socket(self) -> Path:
        """The socket that it listens on."""

    def is_reachable(self) -> bool:
        """Tell whether its socket is there and takes connections; a slow server is reachable."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(_CONNECT_SECONDS)
            try:
                client.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                return False
            except OSError:  # its queue is full, or it is not for us
                return True
        return True

    def ask_to_end(self) -> None:
        """Send the server its first signal to stop, and do not wait."""
        identity = self.identity()
        if identity is not None:
            processes.send(identity, self.stop_signals[0][0])

    def finish_start(self) -> None:  # noqa: B027 - most servers need nothing
        """Do what is left once the server answers."""

    def identity(self) -> ProcessIdentity | None:
        """Find the running server; a stale pid file or a reused pid does not count."""
        try:
            pid = int(self.pid_file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        return processes.find_process(pid, self._users, self.belongs)

    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        return self.identity() is not None

    def elsewhere(self) -> Holder | None:
        """Return where the server is, if its processes are not those of this host or container."""
        found = holders.holder(self._running_lock)
        return None if found is None or found.is_here else found

    def status(self) -> ServerStatus:
        """Return the server as it is now."""
        identity = self.identity()
        return ServerStatus(self.name, identity.pid if identity else None, self.url, self.directory)

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers."""
        self.wait_for_start(self.begin_start())

    def begin_start(self) -> Start:
        """Start the server unless it runs; `wait_for_start` does the rest.

        One that has lost its socket is stopped before: a supervisor would see to it, and none may be there.
        """
        if not self._is_soon_reachable():
            self.stop()
        offset = self.log.stat().st_size if self.log.exists() else 0
        return Start(self.launch(), offset, time.monotonic() + START_SECONDS)

    def wait_for_start(self, start: Start) -> None:
        """Wait until the server answers; stop it and raise LocalStackError if it does not."""
        while not self.is_ready():
            lives = processes.alive(start.identity)
            if not lives or time.monotonic() > start.deadline:
                self.stop()
                what = f"did not answer within {START_SECONDS:.0f} seconds" if lives else "did not start"
                raise self._failure(what, start.log_offset)
            time.sleep(processes.POLL_SECONDS)
        self.finish_start()

    def _is_soon_reachable(self) -> bool:
        deadline = time.monotonic() + SOCKET_SECONDS
        while self.is_running() and not self.is_reachable():
            if time.monotonic() > deadline:
                return False
            time.sleep(processes.POLL_SECONDS)
        return True

    def launch(self) -> ProcessIdentity | None:
        """Start the server unless it runs, without waiting; return its process, None if it ended at once."""
        if not self.is_running():
            check_room(self.directory)
        self._make_directories()
        with locked(self.directory / "lock", LOCK_SECONDS):
            self._refuse_elsewhere()
            running = self.identity()
            if running is not None:
                return running
            descriptor = self._clear_remains()
            try:
                self.initialise()
                self._make_socket_directory()
                return processes.start_detached(
                    self.account.command(self.command()),
                    self.log,
                    directory=Path("/"),
                    environment=server_environment(),
                    inherited=(descriptor,),
                )
            finally:
                os.close(descriptor)

    def stop(self) -> bool:
        """Stop the server; the data stay. False if it was not running."""
        if not self.directory.exists():
            return False
        with locked(self.directory / "lock", LOCK_SECONDS):
            self._refuse_elsewhere()
            identity = self.identity()
            for number, seconds in self.stop_signals:
                if identity is not None:
                    processes.send(identity, number)
                    processes.wait_for_end([identity], seconds)
            if processes.alive(identity):
                raise LocalStackError(
                    f"{self.name} (pid {identity and identity.pid}) cannot be stopped; see {self.log}"
                )
            os.close(self._clear_remains())
            if self.socket_directory.exists() and not any(self.socket_directory.iterdir()):
                self.socket_directory.rmdir()
        return identity is not None

    @property
    def _users(self) -> set[int]:
        return {self.account.user_id, os.getuid()}  # a server is ours until it changes its account

    def _refuse_elsewhere(self) -> None:
        found = self.elsewhere()
        if found is not None:
            raise ConflictError(f"{self.name} of {self.home} is up {found}; stop it there: hsstar down")

    def _clear_remains(self) -> int:
        """End what a killed server left, and remove its files; return the lock, which nobody else has."""
        leftovers = processes.find_processes(self._users, self.belongs)
        processes.stop(leftovers, ORPHAN_SECONDS)
        for identity in filter(processes.alive, leftovers):
            raise LocalStackError(
                f"an earlier {self.name} (pid {identity.pid}) cannot be ended; end it by hand"
            )
        descriptor = holders.hold(self._running_lock)
        if descriptor is None:
            raise LocalStackError(
                f"a process of this machine holds {self._running_lock} and is no {self.name} of {self.home}; "
                "was the home moved while it was up? End that process by hand"
            )
        for file in self.remains:
            file.unlink(missing_ok=True)
        return descriptor

    def _make_directories(self) -> None:
        for folder in (*reversed(self.directory.parents), self.directory):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o700 if self.places.is_inside else 0o755)
        closed = self.account.can_enter(self.directory)
        if closed is not None:
            raise LocalStackError(
                f"the account {self.account.name}, which runs {self.name} for root, cannot enter {closed}; "
                "set HSSTAR_SERVER_DIR to a folder that every user can enter"
            )

    def _make_socket_directory(self) -> None:
        folder = self.socket_directory
        folder.mkdir(mode=0o700, exist_ok=True)
        info = folder.lstat()
        if stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid() != self.account.user_id:
            os.chown(folder, self.account.user_id, self.account.group_id, follow_symlinks=False)
            info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != self.account.user_id or info.st_mode & 0o077:
            raise LocalStackError(
                f"{folder} is not a private folder of {self.account.name}; remove it and try again"
            )

    def own(self, folder: Path) -> None:
        """Make a private folder that belongs to the server's account."""
        folder.mkdir(mode=0o700)
        if not self.account.is_ours:
            os.chown(folder, self.account.user_id, self.account.group_id)

    def _failure(self, what: str, offset: int) -> LocalStackError:
        written = self.log.read_bytes() if self.log.exists() else b""
        text = written[offset if offset <= len(written) else 0 :].decode(errors="replace")
        hint = f"; {self.failure_hint}" if self.failure_hint else ""
        return failure(f"{self.name} {what}", text, f"{self.log}{hint}", self.directory)


def failure(what: str, output: str, log: str, directory: Path) -> LocalStackError:
    """Make the error for a failed server program, with the most telling line of its output."""
    if "No space left on device" in output:
        return LocalStackError(f"{what}: the disk of {directory} is full; make room there and try again")
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    serious = [line for line in lines if re.search(r"\b(FATAL|PANIC|ERROR|error):", line)]
    last = (serious or lines or ["it said nothing"])[-1]
    last = re.sub(r"^.*?\b(?=(FATAL|PANIC|ERROR):)", "", last)
    return LocalStackError(f"{what}: {last} (see {log})")


def server_environment() -> dict[str, str]:
    """Return a small environment, without the user's settings of Postgres and the locale."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
