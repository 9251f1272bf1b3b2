"""Workers that are sent home, and workers whose schema is not the database's any more."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from hsstar import __version__
from hsstar.cli.main import hsstar
from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.store.database import Database
from hsstar.store.queue import jobs, workers
from tests.brokers.conftest import StartWorker, fleet_of_two
from tests.brokers.servers import wait_until

AddJob = Callable[[], int]
Command = Callable[..., str]


@pytest.fixture
def command(database: Database, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs `hsstar` on the test's database; what it says."""
    monkeypatch.setenv("HSSTAR_DATABASE_URL", database.url)

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(hsstar, arguments)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.output

    return run


def set_schema(database: Database, revision: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": revision})


def job_states(database: Database) -> dict[int, str]:
    """State and attempts of the verification jobs, by id."""
    with database.begin() as connection:
        rows = connection.execute(text("SELECT id, state || ' ' || attempts FROM jobs WHERE kind = 'verify'"))
        return {row[0]: row[1] for row in rows}


def test_a_worker_that_is_asked_to_stop_ends_with_a_code_of_its_own(
    embedded_broker: str,
    start_worker: StartWorker,
    command: Command,
    add_verification: AddJob,
    wait_for_job: Callable[..., None],
) -> None:
    with start_worker(embedded_broker, "verify-1@box") as worker:
        wait_for_job(add_verification(), worker)
        assert "verify-1@box" in command("workers")
        with pytest.raises(NotFoundError, match="no live worker is named nobody; see: hsstar workers"):
            command("workers", "stop", "verify-1", "nobody")
        with pytest.raises(NotFoundError, match="has that role"):
            command("workers", "stop", "--role", "train")
        assert "say which" in command("workers", "stop")
        assert worker.row()["stop_requested_at"] is None
        assert command("workers", "stop", "verify-1") == "verify-1@box is asked to stop\n"
        assert worker.process.wait(60) == WorkerExit.DRAINED
        assert worker.row()["state"] == "stopped"
        assert "was asked to stop: it takes no more jobs and ends" in worker.said
        assert "verify-1@box" not in command("workers")
        assert "verify-1@box" in command("workers", "--all")
        assert command("workers", "stop", "--all") == "no worker is running\n"
    with start_worker(embedded_broker, "verify-1@box") as again:
        again.wait_for("idle")  # a request is for one life


def test_the_jobs_in_hand_are_finished_and_no_other_is_taken(
    embedded_broker: str,
    start_worker: StartWorker,
    command: Command,
    add_verification: AddJob,
    database: Database,
) -> None:
    """Its verdicts take half a minute to write."""
    first = add_verification()
    with database.begin() as connection:
        connection.execute(
            text("""
                CREATE FUNCTION wait_long() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN PERFORM pg_sleep(30); RETURN NULL; END'
            """)
        )
        connection.execute(text("CREATE TRIGGER slow BEFORE UPDATE ON samples EXECUTE FUNCTION wait_long()"))
    with start_worker(embedded_broker) as worker:
        worker.wait_for("busy")
        second = add_verification()
        command("workers", "stop", "--role", "verify")
        assert worker.process.wait(120) == WorkerExit.DRAINED
        assert "was asked to stop: it takes no more jobs and ends" in worker.said
        requested = worker.row()["stop_requested_at"]
    with database.begin() as connection:
        finished = connection.scalar(text("SELECT finished_at FROM jobs WHERE id = :id"), {"id": first})
    assert requested < finished
    assert job_states(database) == {first: "done 1", second: "queued 0"}


def test_a_worker_that_dies_while_it_leaves_is_not_replaced(
    embedded_broker: str, start_worker: StartWorker, database: Database
) -> None:
    with start_worker(embedded_broker) as worker:
        worker.wait_for("idle")
        worker.process.send_signal(signal.SIGSTOP)
        with database.begin() as connection:
            workers.request_stop(connection, ["worker"], [], everyone=False)
    with start_worker(embedded_broker) as successor:
        assert successor.process.wait(60) == WorkerExit.DRAINED
        assert "was asked to stop; it can be started again from now on" in successor.said
    with start_worker(embedded_broker) as later:
        later.wait_for("idle")


def test_a_supervisor_starts_no_other_worker_and_ends_with_the_last(
    embedded_broker: str, database: Database, tmp_path: Path, command: Command
) -> None:
    def states() -> dict[str, str]:
        with database.begin() as connection:
            rows = connection.execute(text("SELECT split_part(worker, '@', 1), state FROM worker_activity"))
            return {row[0]: row[1] for row in rows}

    servers = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": embedded_broker}
    with fleet_of_two(tmp_path, servers) as fleet:
        wait_until(lambda: states() == {"verify-cpu1": "idle", "verify-cpu2": "idle"}, lambda: fleet.said)
        command("workers", "stop", "verify-cpu1")
        wait_until(
            lambda: fleet.said.count("was asked to stop and has ended; it is not started again") == 1,
            lambda: fleet.said,
        )
        time.sleep(2)  # longer than a round of the supervisor
        assert states() == {"verify-cpu1": "stopped", "verify-cpu2": "idle"}
        command("workers", "stop", "--all")
        assert fleet.process.wait(120) == 0
        assert fleet.said.count("has ended; it is not started again") == 2
        assert "starts again" not in fleet.said


def test_a_supervisor_does_not_hurry_where_the_schema_does_not_fit(
    embedded_broker: str, database: Database, tmp_path: Path
) -> None:
    servers = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": embedded_broker}
    with fleet_of_two(tmp_path, servers) as fleet:
        wait_until(lambda: fleet.said.count("started, pid") == 2, lambda: fleet.said)
        set_schema(database, "9999_newer")
        told = "does not fit the schema of the database (see its log); starts again in 30.0 s"
        wait_until(lambda: fleet.said.count(told) == 2, lambda: fleet.said)
        time.sleep(3)
        assert fleet.end() == 0
        assert fleet.said.count("started, pid") == 2


@pytest.mark.parametrize(
    ("revision", "told"), [("9999_newer", "newer than this hsstar knows"), ("0000_older", "needs")]
)
def test_a_worker_of_another_schema_takes_no_job_and_ends_with_a_clear_line(
    revision: str,
    told: str,
    embedded_broker: str,
    start_worker: StartWorker,
    add_verification: AddJob,
    database: Database,
) -> None:
    with start_worker(embedded_broker) as worker:
        worker.wait_for("idle")
        set_schema(database, revision)
        job_id = add_verification()
        assert worker.process.wait(60) == WorkerExit.WRONG_SCHEMA
        row = worker.row()
        assert row["state"] == "stopped"
        assert row["note"].startswith("this worker takes no more jobs and ends: the schema is at revision")
        assert told in row["note"]
        assert row["note"] in worker.said
    with start_worker(embedded_broker) as successor:
        assert successor.process.wait(60) == WorkerExit.WRONG_SCHEMA
        line = successor.said.strip().splitlines()[-1]
        assert line.startswith(f"hsstar worker: the schema is at revision {revision}")
        assert "Traceback" not in successor.said
    assert job_states(database) == {job_id: "queued 0"}


def test_a_job_is_not_claimed_between_the_upgrade_and_the_next_heartbeat(
    add_verification: AddJob, database: Database
) -> None:
    job_id = add_verification()
    set_schema(database, "9999_newer")
    with database.begin() as connection:
        assert jobs.claim(connection, job_id, "w", 60) is None
        assert jobs.claim(connection, None, "w", 60, list(JobKind)) is None


def test_what_a_worker_is_stands_in_its_row(
    embedded_broker: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-aaaa)'\n")
    program.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with start_worker(embedded_broker, "v", PATH=path) as verifying:
        verifying.wait_for("idle")
        row = verifying.row()
        assert (row["gpu"], row["version"], row["tokens_done"]) == (None, __version__, 0)  # needs no GPU
    with start_worker(embedded_broker, "s", role="sample", PATH=path) as sampling:
        sampling.wait_for("idle")
        assert sampling.row()["gpu"] == "0"
