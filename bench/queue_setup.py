"""What the benchmarks of the queue share: a Redis, a round with empty jobs, and real worker processes."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from sqlalchemy import text

from bench.queue_worker import SECONDS
from bench.setup import ROOT, fill
from hsstar.domain.lifecycle import JobKind
from hsstar.local.broker import OPTIONS
from hsstar.store.database import Database

KIND = JobKind.VERIFY  # its workers import no PyTorch
LONGEST_WAIT_SECONDS = 600.0


@contextmanager
def temporary_redis() -> Iterator[tuple[str, str]]:
    """Start a redis-server with the options of the embedded broker; yield its URL and version."""
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
    """Add a round with all samples and verdicts, so that its only work is its jobs."""
    with database.begin() as connection:
        return fill(connection, problems=4)[1].id


def replace_jobs(database: Database, round_id: int, count: int) -> None:
    """Delete all jobs, and add jobs without items."""
    with database.begin() as connection:
        connection.execute(text("DELETE FROM jobs"))
        connection.execute(
            text("INSERT INTO jobs (round_id, kind) SELECT :round_id, :kind FROM generate_series(1, :count)"),
            {"round_id": round_id, "kind": KIND.value, "count": count},
        )


def count(database: Database, condition: str) -> int:
    """Count the rows of `TABLE WHERE …`."""
    return int(figure(database, f"SELECT count(*) FROM {condition}"))


def figure(database: Database, query: str) -> float:
    """Return the only number of a query."""
    with database.begin() as connection:
        return float(connection.execute(text(query)).scalar_one())


def processor_seconds(database: Database) -> float:
    """Return the user and system time so far of this process, its children and the database's server."""
    with database.begin() as connection:
        mark = f"cluster_name={connection.execute(text('SHOW cluster_name')).scalar_one()}"
    processes = psutil.process_iter(["cmdline"])
    servers = [process for process in processes if mark in (process.info["cmdline"] or ())]
    return time_of([psutil.Process(), *servers])


def time_of(roots: Sequence[psutil.Process]) -> float:
    """User and system time so far of processes and all that come from them, ended ones included."""
    family = [*roots, *(child for root in roots for child in root.children(recursive=True))]
    times = []
    for process in family:
        with suppress(psutil.NoSuchProcess):  # its time is in its parent's by now
            times.append(process.cpu_times())
    return float(sum(used.user + used.system + used.children_user + used.children_system for used in times))


def wait_for(condition: Callable[[], object], what: str, pause: float = 0.1) -> None:
    """Wait until a condition holds; end the benchmark if that takes too long."""
    end = time.monotonic() + LONGEST_WAIT_SECONDS
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited {LONGEST_WAIT_SECONDS:.0f} seconds in vain: {what}")
        time.sleep(pause)


def workers(
    database: Database, broker_url: str, numbers: range, job_seconds: float, lease_seconds: float = 60.0
) -> AbstractContextManager[dict[str, psutil.Popen]]:
    """Start workers whose jobs only take time, as `started_workers` does."""
    names = [f"benchmark-{number}" for number in numbers]
    commands = {name: ["bench.queue_worker", "--role", KIND.value, "--name", name] for name in names}
    variables = {"HSSTAR_LEASE_SECONDS": str(lease_seconds), SECONDS: str(job_seconds)}
    return started_workers(database, broker_url, commands, variables)


@contextmanager
def started_workers(
    database: Database, broker_url: str, commands: Mapping[str, list[str]], variables: Mapping[str, str]
) -> Iterator[dict[str, psutil.Popen]]:
    """Start modules as worker processes; yield them by name when they are ready; kill them at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="hsw-", dir="/tmp"))
        environment = os.environ | {
            "HSSTAR_HOME": folder,
            "HSSTAR_DATABASE_URL": database.url,
            "HSSTAR_BROKER_URL": broker_url,
            "OMP_NUM_THREADS": "1",
            **variables,
        }
        started = {}
        for name, command in commands.items():
            log = stack.enter_context(Path(folder, f"{name}.log").open("wb"))
            started[name] = stack.enter_context(
                ended([sys.executable, "-m", *command], environment, log.fileno())
            )
        condition = (
            f"workers WHERE name = ANY (ARRAY[{', '.join(map(repr, started))}]) AND state <> 'stopped'"
        )
        wait_for(lambda: count(database, condition) == len(started), "workers", 0.5)
        yield started


@contextmanager
def ended(command: list[str], environment: dict[str, str], output: int) -> Iterator[psutil.Popen]:
    """Start a process, and kill it at the end."""
    process = psutil.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.is_running():
            process.kill()
        process.wait()
