"""`hsstar-worker` ends a real worker in time: its job is done, or back in the queue."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import kombu
import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind
from hsstar.store.database import Database
from tests.brokers.conftest import Program, embedded_broker, started_program
from tests.deploy.manifests import DEPLOY, ROOT
from tests.store.conftest import database, make_database, server_url, template
from tests.store.factory import add_iteration, add_job, add_problems, add_run, state_of
from tests.waiting import wait_for

__all__ = ["database", "embedded_broker", "make_database", "server_url", "template"]  # fixtures

SCRIPT = DEPLOY / "hsstar-worker"
Start = Callable[..., AbstractContextManager[Program]]


@pytest.fixture
def start(database: Database, embedded_broker: str, tmp_path: Path) -> Start:
    """Starts the script with a worker that has begun a job, tells it to end, and waits for that."""
    with kombu.Connection(embedded_broker) as connection, connection.SimpleQueue("verify") as queue:
        queue.clear()  # a message of another test may name the second job
    program = tmp_path / "hsstar"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.deploy.worker_program "$@"\n')
    program.chmod(0o755)
    settings = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HSSTAR_HOME": str(tmp_path / "home"),
        "HSSTAR_DATABASE_URL": database.url,
        "HSSTAR_BROKER_URL": embedded_broker,
    }

    @contextmanager
    def begin(argv: Sequence[str | Path], job: str, job_id: int, **environment: str) -> Iterator[Program]:
        log = tmp_path / "script.log"
        with started_program(argv, log, settings | {"TEST_JOB": job} | environment) as script:
            ended = script.process.poll
            wait_for(lambda: state(database, job_id) == "running" or ended() is not None, 90)
            family = psutil.Process(script.process.pid).children(recursive=True)
            script.process.send_signal(signal.SIGTERM)
            yield script
            assert script.process.wait(timeout=60) == 0, script.said
            assert psutil.wait_procs(family, 5)[1] == []

    return begin


@pytest.fixture
def two_jobs(database: Database) -> tuple[int, int]:
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        add_job(connection, round_id, JobKind.SCORE)  # the round stays where it is
        first, second = (add_job(connection, round_id, JobKind.VERIFY) for _ in range(2))
        return first, second


def state(database: Database, job_id: int) -> str:
    with database.begin() as connection:
        return state_of(connection, job_id)


def test_the_job_in_hand_is_done_and_no_other_is_begun(
    database: Database, start: Start, two_jobs: tuple[int, int]
) -> None:
    script = [SCRIPT, "--role", "verify", "--name", "calm"]
    with start(script, "until told", two_jobs[0], HSSTAR_STOP_SECONDS="50") as worker:
        pass
    assert f" INFO calm: job {two_jobs[0]} (verify), attempt 1" in worker.said
    assert [state(database, job_id) for job_id in two_jobs] == ["done", "queued"]


def test_a_job_that_takes_too_long_is_put_back_and_counts_no_attempt(
    database: Database, start: Start, two_jobs: tuple[int, int]
) -> None:
    script = [SCRIPT, "--role", "verify", "--name", "late"]
    quiet = {"HSSTAR_STOP_SECONDS": "1", "HSSTAR_LOG_LEVEL": "error"}
    with start(script, "for ever", two_jobs[0], **quiet) as ended:
        pass
    assert " INFO " not in ended.said
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT state, attempts, worker FROM jobs WHERE id = ANY (:ids) ORDER BY id"),
            {"ids": list(two_jobs)},
        ).all()
        worker = connection.execute(text("SELECT state FROM workers WHERE name = 'late'")).scalar_one()
    assert [tuple(row) for row in rows] == [("queued", 0, None), ("queued", 0, None)]
    assert worker == "stopped"


def test_the_slurm_script_does_the_same_for_its_task(
    database: Database, embedded_broker: str, start: Start, two_jobs: tuple[int, int], tmp_path: Path
) -> None:
    files: dict[str, str] = {}
    for name, url in (("DATABASE", database.url), ("BROKER", embedded_broker)):
        file = tmp_path / name
        file.write_text(f"{url}\n")
        file.chmod(0o600)
        files |= {f"HSSTAR_{name}_URL_FILE": str(file), f"HSSTAR_{name}_URL": ""}
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77", "SLURM_SUBMIT_DIR": str(ROOT)}
    batch = tmp_path / "slurm_script"  # as Slurm runs it: a copy
    batch.write_bytes((DEPLOY / "slurm" / "workers.sbatch").read_bytes())
    settings = {"HSSTAR_STOP_SECONDS": "1", "HSSTAR_MODELS_DIR": str(tmp_path), **files, **task}
    with start(["bash", batch, "verify"], "for ever", two_jobs[0], **settings):
        with database.begin() as connection:
            names = connection.execute(text("SELECT name FROM workers")).scalars().all()
        assert names == ["verify-3@slurm-77"]
    assert [state(database, job_id) for job_id in two_jobs] == ["queued", "queued"]
