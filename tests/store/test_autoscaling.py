"""What deploy/ asks the database, asked of a real one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.store.database import Database
from hsstar.store.queue import workers
from tests.deploy.manifests import ROOT, probe_commands, scaled_objects
from tests.store.factory import add_iteration, add_job, add_problems, add_run


def queue_lengths(connection: Connection) -> dict[str, int]:
    """What the scaler would learn, by role."""
    found = {}
    for document in scaled_objects():
        query = document["spec"]["triggers"][0]["metadata"]["query"]
        ((length,),) = connection.execute(text(query)).all()
        found[document["metadata"]["name"]] = length
    return found


def test_the_length_of_a_queue_is_what_waits_and_what_runs(connection: Connection) -> None:
    assert queue_lengths(connection) == {"sample": 0, "score": 0, "verify": 0, "train": 0}
    round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
    for state in JobState:
        add_job(connection, round_id, JobKind.SAMPLE, state=state)
    later = add_job(connection, round_id, JobKind.SAMPLE)
    connection.execute(
        text("UPDATE jobs SET available_at = now() + interval '1 minute' WHERE id = :id"), {"id": later}
    )
    for _ in range(3):
        add_job(connection, round_id, JobKind.VERIFY)
    add_job(connection, round_id, JobKind.TRAIN, state=JobState.RUNNING)
    assert queue_lengths(connection) == {"sample": 2, "score": 0, "verify": 3, "train": 1}


@pytest.fixture
def hsstar(tmp_path: Path) -> Path:
    """A folder with `hsstar` and a `hostname` that names a pod."""
    for name, script in (
        ("hsstar", f'exec {sys.executable} -m hsstar.cli "$@"'),
        ("hostname", "echo sample-6d9f-x7k2p"),
    ):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    return tmp_path


def test_a_probe_succeeds_while_the_worker_of_its_pod_reports(database: Database, hsstar: Path) -> None:
    (probe,) = {" ".join(command.split()) for command in probe_commands()}
    environment = os.environ | {
        "PATH": f"{hsstar}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HSSTAR_DATABASE_URL": database.url,
    }

    def asked() -> int:
        return subprocess.run(
            ["sh", "-c", probe], env=environment, cwd=hsstar, capture_output=True, timeout=60
        ).returncode

    with database.begin() as connection:
        workers.register(connection, "sample-7@sample-6d9f-x7k2p", "sample-6d9f-x7k2p", 7, "sample")
        connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '2 minutes'"))
        workers.register(connection, "other", "sample-another-pod", 7, "sample")
    assert asked() != 0
    with database.begin() as connection:
        connection.execute(text("UPDATE workers SET last_heartbeat = now()"))
    assert asked() == 0
