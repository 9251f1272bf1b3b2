"""Workers that are sent home, and workers whose schema is not the database's any more."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from hsstar.cli.main import hsstar
from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from tests.brokers.conftest import StartWorker, fleet_of_two
from tests.waiting import wait_for

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
    """Its verdicts cannot be written before this test allows it."""
    first = add_verification()
    with database.begin() as connection:
        connection.execute(
            text("""
                CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql
                AS 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'
            """)
        )
        connection.execute(text("CREATE TRIGGER wait BEFORE UPDATE ON samples EXECUTE FUNCTION wait()"))
    with start_worker(embedded_broker) as worker:
        with database.begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
            worker.wait_for("busy")
            second = add_verification()
            command("workers", "stop", "--role", "verify")
            worker.wait_for_words("was asked to stop: it takes no more jobs and ends")
        assert worker.process.wait(60) == WorkerExit.DRAINED
    assert job_states(database) == {first: "done 1", second: "queued 0"}


def test_a_supervisor_starts_no_other_worker_and_ends_with_the_last(
    embedded_broker: str, database: Database, tmp_path: Path, command: Command
) -> None:
    def states() -> dict[str, str]:
        with database.begin() as connection:
            rows = connection.execute(text("SELECT split_part(worker, '@', 1), state FROM worker_activity"))
            return {row[0]: row[1] for row in rows}

    def drained(count: int) -> bool:
        return fleet.said.count("was asked to stop and has ended; it is not started again") == count

    servers = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": embedded_broker}
    with fleet_of_two(tmp_path, servers) as fleet:
        both = {"verify-cpu1": "idle", "verify-cpu2": "idle"}
        wait_for(lambda: states() == both, 120, lambda: fleet.said)
        command("workers", "stop", "verify-cpu1")
        wait_for(lambda: drained(1), 60, lambda: fleet.said)
        assert states() == {"verify-cpu1": "stopped", "verify-cpu2": "idle"}
        command("workers", "stop", "--all")
        assert fleet.process.wait(120) == 0
        assert drained(2)
        assert fleet.said.count("started, pid") == 2
        assert "starts again" not in fleet.said


def test_a_job_is_not_claimed_between_the_upgrade_and_the_next_heartbeat(
    add_verification: AddJob, database: Database
) -> None:
    job_id = add_verification()
    set_schema(database, "9999_newer")
    with database.begin() as connection:
        assert jobs.claim(connection, job_id, "w", 60) is None
        assert jobs.claim(connection, None, "w", 60, list(JobKind)) is None
