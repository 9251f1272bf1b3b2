"""A stack with deterministic workers, and what a test may do to it."""

import contextlib
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

import psutil
import psycopg

from hsstar.commands.runs import create_run, start_iterations
from hsstar.domain.errors import ConflictError, DatabaseError, NotFoundError
from hsstar.insights.runs import find_run
from hsstar.local.stack import Stack
from hsstar.local.state import read_state
from hsstar.local.supervisor import STATE_FILE
from hsstar.recipe.recipe import Recipe
from hsstar.settings import Settings
from hsstar.store import migrate, models
from hsstar.store.database import Database
from tests.acceptance.conftest import Home, temporary_home
from tests.chaos.clock import LIBRARY, MENDED, Clock
from tests.chaos.proxy import Proxy
from tests.chaos.worker_program import PROXIED
from tests.checkout import ROOT
from tests.store.factory import HELDOUT, add_problems, make_recipe
from tests.waiting import Found, wait_for

LEASE_SECONDS = 2.0
WORKERS = {"sample": 2, "verify": 2, "score": 1, "train": 1}
PROBLEMS, HELD_OUT, ITERATIONS = 15, 8, 2
PATIENCE_SECONDS = 120.0
_DISK_MEGABYTES = 330
_SMALL_MEMORY = 1 << 26
"""Bytes that a worker may get more once it has no room."""


def chaos_recipe(**sections: Any) -> Recipe:
    """The recipe of the runs, with further sections."""
    return make_recipe(
        seed=11,
        problems={"dataset": "train", "per_iteration": PROBLEMS},
        policy={"model": "builtin:demo-policy", "prompt": "bare"},
        sampling={"n": 6, "n_p": 3},
        reward={"model": "builtin:demo-prm"},
        difficulty={"tau_low": 0.2, "tau_high": 0.65},
        allocation={"policy": "pairs", "waves": 2},
        evaluation={"dataset": HELDOUT},
        **sections,
    )


_RECIPE = chaos_recipe()
_UNFINISHED = """
    SELECT count(*) FROM rounds JOIN runs ON runs.id = run_id
    LEFT JOIN iterations ON iterations.round_id = rounds.id
    LEFT JOIN evaluations ON evaluations.round_id = rounds.id
    WHERE runs.name = %s AND iterations.state IS DISTINCT FROM 'done' AND evaluations.finished_at IS NULL
"""


class ChaosStack:
    """A home whose workers compute deterministically, with a way to everything that may be disturbed."""

    def __init__(self, home: Home, *, small_disk: bool) -> None:
        self.home = home
        self.folder = home.folder
        self.clock = Clock(home.folder) if LIBRARY is not None else None
        self.small_disk = small_disk
        self.small_memory = memory_group(f"hsstar-{home.folder.name}")
        self.proxy: Proxy | None = None
        self._watching: psycopg.Connection | None = None
        self.run = ""
        self._names = (f"run-{number}" for number in itertools.count())
        settings = Settings.from_environment(os.environ | home.environment)
        self.stack = Stack(settings, grace_seconds=3.0)

    def up(self) -> None:
        url, directory = self.stack.postgres.url, str(self.stack.postgres.socket_directory)
        proxied = self.folder / "proxy"
        proxied.mkdir(exist_ok=True)
        for written in (str, lambda path: quote(path, safe="")):
            url = url.replace(written(directory), written(str(proxied)))
        path = os.pathsep.join(map(str, (ROOT, MENDED)))
        environment = {"PYTHONPATH": path, PROXIED: url, "OMP_NUM_THREADS": "1"}
        program = [sys.executable, "-m", "tests.chaos.worker_program"]
        with mock.patch.dict(os.environ, self.clock.environment if self.clock is not None else {}):
            self.stack.up(
                WORKERS,
                prepare=self._prepare,
                command=lambda role, name: [*program, role, f"{name}@{socket.gethostname()}"],
                role_environment=dict.fromkeys(WORKERS, environment),
            )

    def _prepare(self, url: str) -> None:
        with contextlib.closing(Database(url)) as database:
            migrate.upgrade(database)
        if self.proxy is None:
            directory = self.stack.postgres.socket_directory
            name = next(directory.glob(".s.PGSQL.*[0-9]")).name
            self.proxy = Proxy(self.folder / "proxy" / name, directory / name)

    def close(self) -> None:
        if self._watching is not None:
            self._watching.close()
        if self.proxy is not None:
            self.proxy.close()
        if self.small_memory is not None:
            self.small_memory.rmdir()
        if self.clock is not None:
            self.clock.close()

    def _database(self) -> contextlib.closing[Database]:
        return contextlib.closing(Database(self.stack.database_url))

    def import_problems(self) -> None:
        with self._database() as database, database.begin() as connection:
            add_problems(connection, PROBLEMS * ITERATIONS)
            add_problems(connection, HELD_OUT, HELDOUT)

    def start_run(self) -> str:
        """Enqueues all iterations of a new run, from then on the one that is disturbed; its name."""
        self.run = self.start_another_run()
        return self.run

    def start_another_run(self, recipe: Recipe = _RECIPE) -> str:
        """Enqueues all iterations of a new run; its name."""
        name = next(self._names)
        self.insist(lambda database: create_run(database, recipe, name))
        self.insist(lambda database: start_iterations(database, find_run(database, name), ITERATIONS))
        return name

    def insist(self, act: Callable[[Database], object]) -> None:
        """Acts until the database takes it; a refusal says that it took it before its answer was lost."""

        def done() -> bool:
            with contextlib.suppress(ConflictError, NotFoundError), self._database() as database:
                try:
                    act(database)
                except DatabaseError:
                    return False
            return True

        self.wait_for(done, "a database that answers")

    def wait_until_done(self, run: str) -> None:
        """Waits until a run is done, whatever the database does meanwhile."""
        self.wait_for(lambda: self._ask(_UNFINISHED, run) == [(0,)], f"the end of {run}")

    def rows(self, query: str, run: str) -> list[tuple[Any, ...]]:
        """The rows of a query for a run, which has some; waits while the database is away."""
        return self.wait_for(lambda: self._ask(query, run), f"rows of {query}")

    def _ask(self, query: str, run: str) -> list[tuple[Any, ...]] | None:
        """The rows, or None while the database is away; the connection stays open."""
        try:
            if self._watching is None:
                self._watching = psycopg.connect(self.stack.postgres.url, autocommit=True)
            return self._watching.execute(query.encode(), (run,)).fetchall()
        except psycopg.OperationalError:
            self._watching = None
            return None

    def wait_for(self, condition: Callable[[], Found | None], what: str) -> Found:
        """Waits until a condition holds; what did not come about is in the error, with the logs."""
        return wait_for(condition, PATIENCE_SECONDS, lambda: f"{what}\n{self.home.logs()}")

    def workers(self, role: str | None = None) -> list[psutil.Process]:
        """The living worker processes, of one role where it is given, in a fixed order."""
        state = read_state(self.stack.home / STATE_FILE)
        found = []
        for worker in state.workers if state is not None else ():
            if worker.process is not None and role in (None, worker.role):
                with contextlib.suppress(psutil.NoSuchProcess):
                    found.append(psutil.Process(worker.process.pid))
        return found

    def server(self, name: str) -> psutil.Process | None:
        for status in self.stack.status().servers:
            if status.name == name and status.pid is not None:
                return psutil.Process(status.pid)
        return None

    def sockets(self) -> list[Path]:
        """The sockets of the servers that are there."""
        return [file for server in self.stack.embedded for file in server.remains if file.is_socket()]

    def queues(self) -> list[str]:
        """The names of the queues in the broker."""
        with self._database() as database, database.begin() as connection:
            database_id = models.database_id(connection)
        return [f"hsstar-{database_id[:8]}.{kind}" for kind in WORKERS]

    def from_another_namespace(self, command: str) -> int:
        """The exit code of a command of hsstar that sees the folders of this stack, and no process."""
        program = [sys.executable, "-P", "-m", "hsstar.cli", command]
        environment = os.environ | self.home.environment
        return subprocess.run(
            ["unshare", "--pid", "--fork", "--mount-proc", *program], env=environment, capture_output=True
        ).returncode

    def supervisor(self) -> psutil.Process:
        pid = self.stack.status().supervisor_pid
        assert pid is not None
        return psutil.Process(pid)


def memory_group(name: str) -> Path | None:
    """A control group with little memory; None where we may make none."""
    for parent, limit in (("memory", "memory.limit_in_bytes"), ("", "memory.max")):
        group = Path("/sys/fs/cgroup", parent, name)
        try:
            group.mkdir()
        except OSError:
            continue
        if (group / limit).exists():
            (group / limit).write_text(str(_SMALL_MEMORY))
            return group
        group.rmdir()
    return None


@contextmanager
def chaos_stack(stall_seconds: float = 4.0) -> Iterator[ChaosStack]:
    """A stack that is up, with its problems imported; on a small disk of its own where we may mount one."""
    with temporary_home() as home:
        servers = home.folder / "servers"
        servers.mkdir()
        limits = {"LEASE_SECONDS": str(LEASE_SECONDS), "JOB_SAMPLES": "9", "MAX_ATTEMPTS": "10"}
        limits["STALL_SECONDS"] = str(stall_seconds)
        home.environment |= {f"HSSTAR_{name}": value for name, value in limits.items()}
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_MEGABYTES}m,mode=755", "tmpfs", str(servers)]
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
        made = ChaosStack(home, small_disk=mounted)
        try:
            made.up()
            made.import_problems()
            yield made
        finally:
            home.run("down")
            made.close()
            if mounted:
                subprocess.run(["umount", "-l", str(servers)], check=True)
