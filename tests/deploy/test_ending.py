"""`hsstar-worker` ends a real worker in time: its job is done, or back in the queue."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind
from hsstar.local.broker import Broker
from hsstar.store.database import Database
from tests.deploy.manifests import DEPLOY, ROOT
from tests.local.conftest import Place, place
from tests.store.conftest import database, make_database, server_url, template
from tests.store.factory import add_iteration, add_job, add_problems, add_run, state_of
from tests.waiting import wait_for

__all__ = ["database", "make_database", "place", "server_url", "template"]  # fixtures

SCRIPT = DEPLOY / "hsstar-worker"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def broker(place: Place) -> Iterator[Broker]:
    started = place.broker()
    started.start()
    yield started
    started.stop()


@pytest.fixture
def start(database: Database, broker: Broker, place: Place, tmp_path: Path) -> Iterator[Start]:
    """Starts the script with a worker; whatever is left at the end is killed, and nothing may be."""
    program = tmp_path / "hsstar"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.deploy.worker_program "$@"\n')
    program.chmod(0o755)
    begun: list[subprocess.Popen[bytes]] = []

    def begin(command: list[str | Path], job: str, **environment: str) -> subprocess.Popen[bytes]:
        begun.append(
            subprocess.Popen(
                [str(part) for part in command],
                cwd=ROOT,
                env=os.environ
                | {
                    "PATH": f"{tmp_path}:{os.environ['PATH']}",
                    "HSSTAR_HOME": str(place.home),
                    "HSSTAR_DATABASE_URL": database.url,
                    "HSSTAR_BROKER_URL": broker.url,
                    "TEST_JOB": job,
                }
                | environment,
            )
        )
        return begun[-1]

    yield begin
    left = [process for script in begun for process in family(script)]
    for process in left:
        process.kill()
    for script in begun:
        script.wait()
    assert left == []


def family(script: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """What lives of a script and its children."""
    try:
        root = psutil.Process(script.pid)
        return [
            each for each in (root, *root.children(recursive=True)) if each.status() != psutil.STATUS_ZOMBIE
        ]
    except psutil.NoSuchProcess:
        return []


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


@contextmanager
def at_work(script: subprocess.Popen[bytes], database: Database, job_id: int) -> Iterator[None]:
    """Told to end when it has begun a job, and waited for at the end."""
    wait_for(lambda: state(database, job_id) == "running" or script.poll() is not None, 90)
    script.send_signal(signal.SIGTERM)
    yield
    assert script.wait(timeout=60) == 0


def test_the_job_in_hand_is_done_and_no_other_is_begun(
    database: Database, start: Start, two_jobs: tuple[int, int]
) -> None:
    script = start([SCRIPT, "--role", "verify", "--name", "calm"], "until told", HSSTAR_STOP_SECONDS="50")
    with at_work(script, database, two_jobs[0]):
        pass
    assert [state(database, job_id) for job_id in two_jobs] == ["done", "queued"]


def test_a_job_that_takes_too_long_is_put_back_and_counts_no_attempt(
    database: Database, start: Start, two_jobs: tuple[int, int]
) -> None:
    script = start([SCRIPT, "--role", "verify", "--name", "late"], "for ever", HSSTAR_STOP_SECONDS="1")
    with at_work(script, database, two_jobs[0]):
        pass
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT state, attempts, worker FROM jobs WHERE id = ANY (:ids) ORDER BY id"),
            {"ids": list(two_jobs)},
        ).all()
        worker = connection.execute(text("SELECT state FROM workers WHERE name = 'late'")).scalar_one()
    assert [tuple(row) for row in rows] == [("queued", 0, None), ("queued", 0, None)]
    assert worker == "stopped"


def test_the_slurm_script_does_the_same_for_its_task(
    database: Database, broker: Broker, start: Start, two_jobs: tuple[int, int], tmp_path: Path
) -> None:
    files: dict[str, str] = {}
    for name, url in (("DATABASE", database.url), ("BROKER", broker.url)):
        file = tmp_path / name
        file.write_text(f"{url}\n")
        file.chmod(0o600)
        files |= {f"HSSTAR_{name}_URL_FILE": str(file), f"HSSTAR_{name}_URL": ""}
    task = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77", "SLURM_SUBMIT_DIR": str(ROOT)}
    batch = tmp_path / "slurm_script"  # as Slurm runs it: a copy
    batch.write_bytes((DEPLOY / "slurm" / "workers.sbatch").read_bytes())
    script = start(
        ["bash", batch, "verify"],
        "for ever",
        HSSTAR_STOP_SECONDS="1",
        HSSTAR_MODELS_DIR=str(tmp_path),
        **files,
        **task,
    )
    with at_work(script, database, two_jobs[0]):
        with database.begin() as connection:
            names = connection.execute(text("SELECT name FROM workers")).scalars().all()
        assert names == ["verify-3@slurm-77"]
    assert [state(database, job_id) for job_id in two_jobs] == ["queued", "queued"]
