"""Real brokers, a real database, and worker processes that run real verification jobs."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind
from hsstar.local.broker import Broker
from hsstar.store import rounds, samples
from hsstar.store.database import Database
from tests.brokers.servers import (
    PgBouncer,
    Server,
    end_name_server,
    make_rabbitmq,
    make_redis,
    pgbouncer,
    write_certificates,
)
from tests.store.conftest import database, empty_database, make_database, server_url, template
from tests.store.factory import add_iteration, add_problems, add_run
from tests.waiting import wait_for

__all__ = ["database", "empty_database", "make_database", "server_url", "template"]

ROOT = Path(__file__).parents[2]
CONNECTIONS = 4
"""To Postgres, for all clients of PgBouncer together."""
StartWorker = Callable[..., AbstractContextManager["WorkerProcess"]]


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that the accounts of servers can enter."""
    folder = Path(tempfile.mkdtemp(prefix="hsb-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def certificates() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield write_certificates(folder)


@contextmanager
def started(make: Callable[[Path, Path], Server], certificates: Path) -> Iterator[Server]:
    with temporary_folder() as folder:
        server = make(folder, certificates)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            if make is make_rabbitmq:
                end_name_server(server)


@pytest.fixture(scope="session")
def redis(certificates: Path) -> Iterator[Server]:
    with started(make_redis, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(certificates: Path) -> Iterator[Server]:
    with started(make_rabbitmq, certificates) as server:
        yield server


@pytest.fixture(scope="session")
def bouncer(certificates: Path, server_url: str) -> Iterator[PgBouncer]:
    with temporary_folder() as folder, pgbouncer(folder, certificates, server_url, CONNECTIONS) as running:
        yield running


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> tuple[Server, str]:
    """The server of a scheme, and its URL: indirect, by scheme."""
    server: Server = request.getfixturevalue("redis" if request.param.startswith("redis") else "rabbitmq")
    return server, server.urls[request.param]


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
        self.process.send_signal(signal.SIGTERM)
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
        with self.database.begin() as connection:
            found = connection.execute(
                text("SELECT * FROM worker_activity WHERE worker = :name"), {"name": self.name}
            ).first()
        return {} if found is None else dict(found._mapping)

    def wait_for(self, state: str) -> None:
        wait_for(lambda: self.row().get("state") == state, 120, lambda: f"{state}:\n{self.said}")

    def wait_for_note(self, text: str) -> str:
        wait_for(lambda: text in str(self.row().get("note")), 120, lambda: f"{text!r}:\n{self.said}")
        return str(self.row()["note"])

    def wait_for_words(self, pattern: str) -> None:
        wait_for(lambda: re.search(pattern, self.said), 120, lambda: f"{pattern!r} in the log:\n{self.said}")


@pytest.fixture
def start_worker(database: Database, tmp_path: Path) -> StartWorker:
    """Starts `python -m hsstar.workers` on the test's database and a broker; it has ended with the block."""

    @contextmanager
    def start(
        broker_url: str, name: str = "worker", role: str = "verify", **environment: str
    ) -> Iterator[WorkerProcess]:
        servers = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": broker_url}
        argv = [sys.executable, "-m", "hsstar.workers", "--role", role, "--name", name]
        settings = servers | {"HSSTAR_HOME": str(tmp_path / "home")} | environment
        with started_program(argv, tmp_path / f"{name}.log", settings) as program:
            yield WorkerProcess(program.process, program.log, name, database)

    return start


@contextmanager
def fleet_of_two(folder: Path, environment: Mapping[str, str]) -> Iterator[Program]:
    """`hsstar worker` with two processes under its supervisor."""
    argv = [sys.executable, "-m", "hsstar.cli", "worker", "--role", "verify=2"]
    settings = {**environment, "HSSTAR_HOME": str(folder / "home")}
    with started_program(argv, folder / "fleet.log", settings) as program:
        yield program


@pytest.fixture
def add_verification(database: Database) -> Callable[[], int]:
    """Adds a run with unverified samples and the job that verifies them; the id of the job."""

    def add() -> int:
        with database.begin() as connection:
            problem_ids = add_problems(connection, 2)
            round_id = add_iteration(connection, add_run(connection), problem_ids).id
            drawn = [
                samples.DrawnSample(problem, slot, f"so \\boxed{{{place}}}", tokens=5)
                for place, problem in enumerate(problem_ids)
                for slot in range(3)
            ]
            samples.write_samples(connection, round_id, None, "test", drawn)
            (job_id,) = rounds.allocate(connection, round_id, JobKind.VERIFY, 64)
        return job_id

    return add


@pytest.fixture
def wait_for_job(database: Database) -> Callable[..., None]:
    """Waits until a job is done, and looks whether its samples have their verdicts."""

    def look(job_id: int) -> tuple[str, int]:
        with database.begin() as connection:
            row = connection.execute(
                text("""
                    SELECT jobs.state, count(*) FILTER (WHERE samples.verdict = 'correct')
                    FROM jobs JOIN samples USING (round_id) WHERE jobs.id = :id GROUP BY jobs.id
                """),
                {"id": job_id},
            ).one()
        return row[0], row[1]

    def wait(job_id: int, worker: WorkerProcess) -> None:
        wait_for(lambda: look(job_id)[0] == "done", 120, lambda: f"job {job_id}:\n{worker.said}")
        assert look(job_id) == ("done", 6)

    return wait
