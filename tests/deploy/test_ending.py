"""`hsstar-worker` ends a real worker in time: its job is done, or back in the queue."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import kombu
import psutil
import pytest

from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from tests.brokers.conftest import Program, embedded_broker, started_program
from tests.deploy.manifests import DEPLOY, ROOT
from tests.store.conftest import database, make_database, server_url, template
from tests.store.factory import add_iteration, add_job, add_problems, add_run, select, state_of
from tests.waiting import wait_for

__all__ = ["database", "embedded_broker", "make_database", "server_url", "template"]  # fixtures

Start = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def two_jobs(database: Database) -> tuple[int, int]:
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        add_job(connection, round_id, JobKind.SCORE)  # the round stays where it is
        first, second = (add_job(connection, round_id, JobKind.VERIFY) for _ in range(2))
        return first, second


@pytest.fixture
def start(database: Database, embedded_broker: str, two_jobs: tuple[int, int], tmp_path: Path) -> Start:
    """Starts a script with a worker that has begun the first job, tells it to end, and waits for that."""
    with kombu.Connection(embedded_broker) as connection, connection.SimpleQueue("verify") as queue:
        queue.clear()  # a message of another test may name the second job
    program = tmp_path / "hsstar"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.deploy.worker_program "$@"\n')
    program.chmod(0o755)
    own = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": embedded_broker}
    own |= {"HSSTAR_HOME": str(tmp_path / "home"), "PATH": f"{tmp_path}:{os.environ['PATH']}"}

    def begun() -> bool:
        with database.begin() as connection:
            return state_of(connection, two_jobs[0]) == "running"

    @contextmanager
    def begin(argv: Sequence[str | Path], job: str, **environment: str) -> Iterator[Program]:
        with started_program(argv, tmp_path / "script.log", own | {"TEST_JOB": job} | environment) as script:
            wait_for(lambda: begun() or script.process.poll() is not None, 90)
            family = psutil.Process(script.process.pid).children(recursive=True)
            script.process.terminate()
            yield script
            assert script.process.wait(timeout=60) == 0, script.said
            assert psutil.wait_procs(family, 5)[1] == []

    return begin


def rows_of(database: Database, query: str) -> list[tuple[object, ...]]:
    with database.begin() as connection:
        return select(connection, query)


@pytest.mark.slow
def test_the_job_in_hand_is_done_and_no_other_is_begun(
    database: Database, start: Start, two_jobs: tuple[int, int]
) -> None:
    script = [DEPLOY / "hsstar-worker", "--role", "verify", "--name", "calm"]
    with start(script, "until told", HSSTAR_STOP_SECONDS="50") as worker:
        pass
    assert f" INFO calm: job {two_jobs[0]} (verify), attempt 1" in worker.said
    jobs = rows_of(database, "SELECT id, state FROM jobs WHERE kind = 'verify' ORDER BY id")
    assert jobs == [(two_jobs[0], "done"), (two_jobs[1], "queued")]


@pytest.mark.heavy
def test_a_job_that_takes_too_long_for_slurm_is_put_back_and_counts_no_attempt(
    database: Database, embedded_broker: str, start: Start, tmp_path: Path
) -> None:
    settings = {"HSSTAR_STOP_SECONDS": "1", "HSSTAR_LOG_LEVEL": "error", "HSSTAR_MODELS_DIR": str(tmp_path)}
    for name, url in (("DATABASE", database.url), ("BROKER", embedded_broker)):
        file = tmp_path / name
        file.touch(0o600)
        file.write_text(f"{url}\n")
        settings |= {f"HSSTAR_{name}_URL_FILE": str(file), f"HSSTAR_{name}_URL": ""}
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77", "SLURM_SUBMIT_DIR": str(ROOT)}
    batch = tmp_path / "slurm_script"  # as Slurm runs it: a copy
    batch.write_bytes((DEPLOY / "slurm" / "workers.sbatch").read_bytes())
    with start(["bash", batch, "verify"], "for ever", **settings, **task) as ended:
        pass
    assert " INFO " not in ended.said
    jobs = rows_of(database, "SELECT state, attempts, worker FROM jobs WHERE kind = 'verify'")
    assert jobs == [("queued", 0, None)] * 2
    assert rows_of(database, "SELECT name, state FROM workers") == [("verify-3@slurm-77", "stopped")]
