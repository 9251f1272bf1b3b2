"""What deploy/ asks the database, asked of a real one."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import Connection, text

from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.store.database import Database
from tests.deploy.manifests import ROOT, probe_commands, scaled_objects
from tests.store.drawing import execute
from tests.store.factory import add_job, add_round, add_worker, change_jobs, select


def queue_lengths(connection: Connection) -> dict[str, int]:
    """What the scaler would learn, by role."""
    queries = {
        of["metadata"]["name"]: of["spec"]["triggers"][0]["metadata"]["query"] for of in scaled_objects()
    }
    return {role: select(connection, query)[0][0] for role, query in queries.items()}


def test_the_length_of_a_queue_is_what_waits_and_what_runs(connection: Connection) -> None:
    assert queue_lengths(connection) == {"sample": 0, "score": 0, "verify": 0, "train": 0}
    round_id, _ = add_round(connection, 1)
    for state in JobState:
        add_job(connection, round_id, state=state)
    change_jobs(connection, "available_at = now() + interval '1 minute'", add_job(connection, round_id))
    for _ in range(3):
        add_job(connection, round_id, JobKind.VERIFY)
    add_job(connection, round_id, JobKind.TRAIN, state=JobState.RUNNING)
    assert queue_lengths(connection) == {"sample": 2, "score": 0, "verify": 3, "train": 1}


def test_a_probe_succeeds_while_the_worker_of_its_pod_reports(database: Database, tmp_path: Path) -> None:
    host = "sample-6d9f-x7k2p"
    scripts = {"hsstar": f'exec {sys.executable} -m hsstar.cli "$@"', "hostname": f"echo {host}"}
    for name, script in scripts.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    (probe,) = {" ".join(command.split()) for command in probe_commands()}
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "HSSTAR_DATABASE_URL": database.url}

    def succeeds() -> bool:
        command = ["sh", "-c", probe]
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=60)
        return done.returncode == 0

    with database.begin() as connection:
        add_worker(connection, f"sample-7@{host}", host=host, process=7)
        connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '2 minutes'"))
        add_worker(connection, "other", host="sample-another-pod", process=7)
    assert not succeeds()
    execute(database, "UPDATE workers SET last_heartbeat = now()")
    assert succeeds()
