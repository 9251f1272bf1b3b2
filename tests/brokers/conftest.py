"""Real brokers, a real database, and worker processes that run real verification jobs."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind
from hsstar.local.broker import Broker
from hsstar.store import rounds, samples
from hsstar.store.database import Database
from tests.brokers import servers
from tests.brokers.servers import Server
from tests.store.conftest import database, empty_database, make_database, server_url, template
from tests.store.factory import add_iteration, add_problems, add_run, select
from tests.waiting import wait_for

__all__ = ["database", "empty_database", "make_database", "server_url", "template"]

ROOT = Path(__file__).parents[2]
StartWorker = Callable[..., AbstractContextManager["WorkerProcess"]]
HASTY_WORKER = """
from hsstar import broker
broker.CONNECT_SECONDS = broker._SOCKET_SECONDS = 1
from hsstar.workers import __main__, background, broker_watch
broker_watch._QUIET_SECONDS = background._SWEEP_SECONDS = 0.5
__main__.main()
"""
"""`python -m hsstar.workers`, which notices sooner that its broker is away."""


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that the accounts of servers can enter."""
    with TemporaryDirectory(prefix="hsb-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def certificates() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield servers.write_certificates(folder)


@contextmanager
def started(make: Callable[..., Server], *arguments: object) -> Iterator[Server]:
    with temporary_folder() as folder:
        server = make(folder, *arguments)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            if make is servers.make_rabbitmq:
                servers.end_name_server(server)


@pytest.fixture(scope="session")
def redis(certificates: Path) -> Iterator[Server]:
    with started(servers.make_redis, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(certificates: Path) -> Iterator[Server]:
    with started(servers.make_rabbitmq, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def bouncer(certificates: Path, server_url: str) -> Iterator[Server]:
    with started(servers.make_pgbouncer, certificates, server_url) as server:
        yield server


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[str]:
    with temporary_folder() as folder:
        server = Broker(folder / "home", folder / "servers")
        server.start()
        try:
            yield server.url
        finally:
            server.stop()


@dataclass
class Program:
    """A process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(120)


@contextmanager
def started_program(
    argv: Sequence[str | Path], log: Path, environment: Mapping[str, str]
) -> Iterator[Program]:
    """A program of this checkout; nothing of it is left after the block."""
    with log.open("ab") as output:
        process = subprocess.Popen(argv, cwd=ROOT, env=os.environ | environment, stdout=output, stderr=output)
    try:
        yield Program(process, log)
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.wait()
        for member in family:
            member.kill()


@dataclass
class WorkerProcess(Program):
    name: str
    database: Database

    def row(self) -> dict[str, Any]:
        """Its row of `worker_activity`; empty before it has reported for duty."""
        query = text("SELECT * FROM worker_activity WHERE worker = :name")
        with self.database.begin() as connection:
            return dict(connection.execute(query, {"name": self.name}).mappings().first() or {})

    def wait_for(self, column: str, value: str) -> None:
        """Waits until its row says this there, a note perhaps among other words."""
        wait_for(lambda: value in str(self.row().get(column)), 120, lambda: f"{value!r}:\n{self.said}")

    def wait_for_job(self, job_id: int) -> None:
        """Waits until a job is done and its samples have their verdicts."""
        correct = "SELECT count(*) FROM samples WHERE round_id = jobs.round_id AND verdict = 'correct'"
        query = f"SELECT state, ({correct}) FROM jobs WHERE id = :id"

        def outcome() -> list[tuple[Any, ...]]:
            with self.database.begin() as connection:
                return select(connection, query, id=job_id)

        wait_for(lambda: outcome() == [("done", 6)], 120, lambda: f"{job_id}: {outcome()}\n{self.said}")


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> StartWorker:
    """Starts a worker on the test's database and a broker; it has ended with the block."""

    @contextmanager
    def start(broker_url: str, name: str = "worker", **environment: str) -> Iterator[WorkerProcess]:
        argv = [sys.executable, "-c", HASTY_WORKER, "--role", "verify", "--name", name]
        settings = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": broker_url}
        settings |= {"HSSTAR_HOME": str(tmp_path / "home")} | environment
        with started_program(argv, tmp_path / f"{name}.log", settings) as program:
            yield WorkerProcess(program.process, program.log, name, database)

    return start


def add_verification(database: Database) -> int:
    """Adds a run with unverified samples and the job that verifies them; the id of the job."""
    with database.begin() as connection:
        problem_ids = add_problems(connection, 2)
        round_id = add_iteration(connection, add_run(connection), problem_ids).id
        drawn = [
            samples.DrawnSample(problem, slot, f"so \\boxed{{{place}}}", tokens=5)
            for place, problem in enumerate(problem_ids)
            for slot in range(3)
        ]
        samples.write_samples(connection, round_id, None, "test", drawn)
        return rounds.allocate(connection, round_id, JobKind.VERIFY, 64)[0]
