"""Homes for real servers: short paths that every account can enter, and proof that nothing is left behind."""

import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from hsstar.domain.errors import ConflictError
from hsstar.local import postgres, processes
from hsstar.local.broker import Broker
from hsstar.local.postgres import Postgres
from hsstar.local.processes import ProcessIdentity
from hsstar.local.server import EmbeddedServer
from hsstar.local.stack import Stack
from hsstar.settings import Settings

WORKER_PROGRAM = Path(__file__).with_name("worker_program.py")


def worker(role: str, name: str) -> list[str]:
    return [sys.executable, str(WORKER_PROGRAM), role, name]


class Place:
    """One machine's worth of folders."""

    def __init__(self, root: Path) -> None:
        self.root, self.servers = root, root / "servers"
        self.home = root / "my home"  # the blank is meant
        folders = {"HSSTAR_HOME": str(self.home), "HSSTAR_SERVER_DIR": str(self.servers)}
        self.settings = Settings.from_environment(folders)

    def stack(self) -> Stack:
        return Stack(self.settings, grace_seconds=3.0)

    def postgres(self) -> Postgres:
        return Postgres(self.home, self.servers)

    def broker(self) -> Broker:
        return Broker(self.home, self.servers)

    def processes(self) -> list[psutil.Process]:
        marks = (str(self.root), self.postgres().cluster_name)
        titles = {each: " ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])}
        return [process for process, title in titles.items() if any(mark in title for mark in marks)]


def identity_of(server: EmbeddedServer) -> ProcessIdentity:
    """The process of a server that runs."""
    identity = server.identity()
    assert identity is not None
    return identity


def kill(server: EmbeddedServer) -> None:
    identity = identity_of(server)
    processes.send(identity, signal.SIGKILL)
    processes.wait_for_end([identity], 5.0)
    assert not server.is_running()


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Folders for one test; afterwards no process and no socket of it may be left."""
    options = (*postgres.INITDB_OPTIONS, "--no-sync")  # a sync takes seconds on a busy disk
    monkeypatch.setattr(postgres, "INITDB_OPTIONS", options)
    place = Place(Path(tempfile.mkdtemp(prefix="hst-", dir="/tmp")))
    place.root.chmod(0o755)
    sockets = [place.postgres().socket_directory, place.broker().socket_directory]
    try:
        yield place
        with suppress(ConflictError):  # the test may have ended it itself
            place.stack().down()
        assert place.processes() == []
        assert [folder for folder in sockets if folder.exists()] == []
    finally:
        for process in place.processes():
            process.kill()
        for folder in (place.root, *sockets):
            shutil.rmtree(folder, ignore_errors=True)
