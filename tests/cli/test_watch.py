"""`--watch` on a real terminal: it fills it, follows its size, waits for the database, says what is next."""

import fcntl
import os
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from hsstar.domain.lifecycle import JobKind
from tests.cli.conftest import CommandLine, enqueue
from tests.store.factory import add_worker, claim, execute

_PATIENCE = 120.0
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A pseudo-terminal in which `hsstar` runs; `read` collects what it writes."""

    def __init__(self, rows: int, columns: int, *arguments: str, kind: str = "xterm-256color") -> None:
        self._ours, theirs = os.openpty()
        self._written = ""
        self.resize(rows, columns)
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        command = [sys.executable, "-P", "-m", "hsstar.cli", *arguments]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment | {"TERM": kind}
        )
        os.close(theirs)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, *wanted: str) -> str:
        """Return everything that was written, once the newest frame (or line) has all of these texts."""
        deadline = time.monotonic() + _PATIENCE
        while not all(part in self.frame() for part in wanted):
            assert time.monotonic() < deadline, (wanted, self._written[-3000:])
            if not self._read():
                break
        assert all(part in self.frame() for part in wanted), (wanted, self._written[-3000:])
        return self._written

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], 1.0)
        if not ready:
            return self.process.poll() is None
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # the other end is closed
            return False
        self._written += data.decode(errors="replace")
        return bool(data)

    def frame(self) -> str:
        """The newest whole frame as plain text; without frames all that was written."""
        frames = self._written.split("\x1b[H")
        newest = frames[-2] if len(frames) > 2 else frames[-1]
        return _STYLE.sub("", newest).replace("\r", "")

    def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and what stands on the terminal after the view."""
        while self._read():
            pass
        code = self.process.wait(_PATIENCE)
        return code, _STYLE.sub("", self._written.rpartition("\x1b[?1049l")[2]).replace("\r", "")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)


@contextmanager
def terminal(rows: int, columns: int, *arguments: str, kind: str = "xterm-256color") -> Iterator[Terminal]:
    opened = Terminal(rows, columns, *arguments, kind=kind)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def half_done(cli: CommandLine) -> CommandLine:
    """The run `r` in pre-sampling, with a worker at work and one that has vanished."""
    enqueue(cli)
    worker = cli.worker(job_samples=4)
    worker.conductor.sweep()
    worker.do(worker.queued()[0])
    for job_id in worker.queued({JobKind.VERIFY, JobKind.SCORE}):
        worker.do(job_id)
    with cli.database.begin() as connection:
        add_worker(connection, "sample-1@box", host="box", gpu="3")
        add_worker(connection, "score-1@box", "score")
        execute(
            connection,
            "UPDATE workers SET last_heartbeat = now() - interval '90 s' WHERE name = 'score-1@box'",
        )
        claim(connection, worker.queued({JobKind.SAMPLE})[0], "sample-1@box")
    return cli


@pytest.mark.slow
def test_the_view_fills_the_terminal_and_follows_its_size(half_done: CommandLine) -> None:
    with terminal(30, 100, "status", "r", "--watch", "--samples") as screen:
        screen.read_until(
            "run r  watched for", "iteration 0  pre-sampling", "  sampled ", "4/24", "  verified ",
            "workers  1 busy, 1 lost", "sample-1@box", "worker score-1@box is lost: no heartbeat since",
            "newest: train problem", "r/0/", "Ctrl-C ends this view only",
        )  # fmt: skip
        for rows, columns in ((12, 50), (40, 160), (5, 30)):
            screen.resize(rows, columns)
            began = time.monotonic()
            while len(lines := screen.frame().split("\n")) > rows or max(map(len, lines)) != columns:
                assert time.monotonic() - began < _PATIENCE, (rows, columns, lines)
                screen._read()
            assert "Ctrl-C" in screen.frame()
        half_done.worker().work()  # what the vanished worker and the busy one would have done
        with half_done.database.begin() as connection:
            execute(
                connection,
                "UPDATE jobs SET lease_expires_at = now() - interval '1 h' WHERE state = 'running'",
            )
            execute(connection, "UPDATE workers SET state = 'stopped'")
        half_done.worker().work()
        code, rest = screen.finish()
    assert code == 0
    assert "iteration 0  done" in rest
    assert "r is done; look at it: hsstar show r; continue: hsstar iterate r --watch" in rest


@pytest.mark.slow
def test_the_view_waits_for_a_database_that_goes_and_comes_back(
    half_done: CommandLine, server_url: str
) -> None:
    name = make_url(half_done.database.url).database
    assert name is not None
    admit = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    with (
        terminal(30, 100, "status", "r", "--watch") as screen,
        psycopg.connect(server_url, autocommit=True) as server,
    ):
        screen.read_until("workers  1 busy")
        server.execute(admit.format(sql.Identifier(name), sql.Literal(False)))
        try:
            server.execute(end, [name])
            screen.read_until("accepting", "waiting", "workers  1 busy")
        finally:
            server.execute(admit.format(sql.Identifier(name), sql.Literal(True)))
        began = time.monotonic()
        while "accepting" in screen.frame():
            assert time.monotonic() - began < _PATIENCE
            screen._read()
        screen.read_until("workers  1 busy")


def test_a_dumb_terminal_gets_lines(half_done: CommandLine) -> None:
    with terminal(30, 100, "status", "r", "--watch", kind="dumb") as screen:
        written = screen.read_until("iteration 0  pre-sampling", "worker score-1@box is lost")
        assert "\x1b" not in written
        screen.process.send_signal(2)
        code, _ = screen.finish()
    assert code == 130


def test_ctrl_c_leaves_the_last_state_behind(half_done: CommandLine) -> None:
    with terminal(30, 100, "status", "r", "--watch") as screen:
        screen.read_until("workers  1 busy")
        screen.process.send_signal(2)
        code, rest = screen.finish()
    assert code == 130
    assert "iteration 0  pre-sampling  samples 4/24" in rest
    assert "r continues; look again: hsstar status r --watch" in rest
