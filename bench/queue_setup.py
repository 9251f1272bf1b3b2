"""Where the queue is measured: a Redis, a round with jobs of no content, and real worker processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from sqlalchemy import text

from bench.queue_worker import SECONDS
from bench.setup import fill
from hsstar.domain.lifecycle import JobKind
from hsstar.local.broker import OPTIONS
from hsstar.store.database import Database

ROOT = Path(__file__).parents[1]
KIND = JobKind.VERIFY  # its workers import no PyTorch
PATIENCE_SECONDS = 600.0


@contextmanager
def temporary_redis() -> Iterator[tuple[str, str]]:
    """A redis-server of its own with the options of the embedded broker: its URL and version."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("this measurement needs redis-server on the PATH (Debian: apt-get install redis-server)")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    with tempfile.TemporaryDirectory(prefix="hsr-", dir="/tmp") as folder:
        socket = Path(folder, "redis.sock")
        options = [part for option in OPTIONS for part in option]
        server = subprocess.Popen(
            [program, *options, "--dir", folder, "--unixsocket", str(socket)], stdout=subprocess.DEVNULL
        )
        try:
            wait_for(socket.exists, "Redis")
            yield f"redis+socket://{socket}", version.split("v=")[1].split()[0]
        finally:
            server.terminate()
            server.wait()


def make_round(database: Database) -> int:
    """A round that lacks nothing, so that nothing but its jobs has to be done."""
    with database.begin() as connection:
        return fill(connection, problems=4)[1].id


def add_jobs(database: Database, round_id: int, count: int) -> None:
    """Jobs without items."""
    with database.begin() as connection:
        connection.execute(
            text("INSERT INTO jobs (round_id, kind) SELECT :round_id, :kind FROM generate_series(1, :count)"),
            {"round_id": round_id, "kind": KIND.value, "count": count},
        )


def count(database: Database, condition: str) -> int:
    """How many rows there are: `TABLE WHERE …`."""
    with database.begin() as connection:
        return int(connection.execute(text(f"SELECT count(*) FROM {condition}")).scalar_one())


def figure(database: Database, query: str) -> float:
    """The only number that a query gives."""
    with database.begin() as connection:
        return float(connection.execute(text(query)).scalar_one())


def processor_seconds(database: Database) -> float:
    """User and system time so far of this process, its children and the database's server."""
    with database.begin() as connection:
        cluster = str(connection.execute(text("SHOW cluster_name")).scalar_one())
    return time_of([psutil.Process(), *server_processes(cluster)])


def server_processes(cluster: str) -> list[psutil.Process]:
    """The first process of a Postgres, from which all others come."""
    mark = f"cluster_name={cluster}"
    return [
        process for process in psutil.process_iter(["cmdline"]) if mark in (process.info["cmdline"] or ())
    ]


def time_of(roots: Sequence[psutil.Process]) -> float:
    """User and system time so far of processes and all that come from them, ended ones included."""
    family = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    times = []
    for process in family:
        with suppress(psutil.NoSuchProcess):  # its time is in its parent's by now
            times.append(process.cpu_times())
    return float(sum(used.user + used.system + used.children_user + used.children_system for used in times))


def wait_for(condition: Callable[[], object], what: str, pause: float = 0.1) -> None:
    """Waits until it is so; ends the benchmark if that takes too long."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited {PATIENCE_SECONDS:.0f} seconds in vain: {what}")
        time.sleep(pause)


@contextmanager
def workers(
    database: Database, broker_url: str, numbers: range, job_seconds: float, lease_seconds: float = 60.0
) -> Iterator[dict[str, psutil.Popen]]:
    """Worker processes that are ready for jobs, by name; killed at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hsw-", dir="/tmp"))
        environment = os.environ | {
            "HSSTAR_HOME": folder,
            "HSSTAR_DATABASE_URL": database.url,
            "HSSTAR_BROKER_URL": broker_url,
            "HSSTAR_LEASE_SECONDS": str(lease_seconds),
            "OMP_NUM_THREADS": "1",
            SECONDS: str(job_seconds),
        }
        started = {}
        for number in numbers:
            name = f"benchmark-{number}"
            command = [sys.executable, "-m", "bench.queue_worker", "--role", KIND.value, "--name", name]
            log = stack.enter_context(Path(folder, f"{name}.log").open("wb"))
            started[name] = stack.enter_context(ended(command, environment, log.fileno()))
        condition = (
            f"workers WHERE name = ANY (ARRAY[{', '.join(map(repr, started))}]) AND state <> 'stopped'"
        )
        wait_for(lambda: count(database, condition) == len(started), "workers", 0.5)
        yield started


@contextmanager
def ended(command: list[str], environment: dict[str, str], output: int) -> Iterator[psutil.Popen]:
    """A process that is killed at the end."""
    process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()
        process.wait()
