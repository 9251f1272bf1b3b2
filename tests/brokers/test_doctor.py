"""`hsstar doctor`, and every other command, when servers are away or never answer; and what is stuck."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from hsstar.cli.main import hsstar
from hsstar.doctor.machine import check_disk, check_engines, check_gpus
from hsstar.doctor.probes import Probe, examine
from hsstar.doctor.servers import check_broker, check_database
from hsstar.domain.errors import BrokerError, DatabaseError
from hsstar.domain.findings import Finding, Level
from hsstar.store import database as store_database
from hsstar.store.database import Database
from hsstar.store.queue import workers
from tests.brokers.servers import black_hole, free_port

QUICK_SECONDS = 25.0
"""For the start of Python on a busy machine and what a command may wait (the doctor: 9 s)."""


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "hsstar.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert time.monotonic() - begun < QUICK_SECONDS, arguments
    assert "Traceback" not in done.stdout + done.stderr
    return done


COMMANDS = (
    "status", "status run", "workers", "workers stop --all", "runs list", "runs show run", "jobs list",
    "jobs retry", "iterate run", "models list", "problems list", "db current", "db upgrade",
    "worker --role verify", "worker --role verify=2", "up",
)  # fmt: skip


def servers_at(port: int, home: Path) -> dict[str, str]:
    return {
        "HSSTAR_DATABASE_URL": f"postgresql://me:s3cret@127.0.0.1:{port}/hsstar",
        "HSSTAR_BROKER_URL": f"redis://127.0.0.1:{port}/0",
        "HSSTAR_HOME": str(home),
    }


def test_every_command_says_that_the_servers_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = servers_at(free_port(), tmp_path)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    for command in COMMANDS:
        with pytest.raises(DatabaseError, match="cannot reach the database") as refusal:
            CliRunner().invoke(hsstar, command.split(), catch_exceptions=False)
        assert "s3cret" not in str(refusal.value)
    done = run(environment, "doctor", "--json")
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert done.returncode == 1
    assert found["database"]["level"] == found["broker"]["level"] == "FAIL"
    assert "cannot reach the database" in found["database"]["text"]
    assert found["disk"]["level"] in ("ok", "warn")


def test_no_command_hangs_when_the_servers_do_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_database, "_CONNECT_SECONDS", 2)
    with black_hole() as port:
        for variable, value in servers_at(port, tmp_path).items():
            monkeypatch.setenv(variable, value)
        begun = time.monotonic()
        for command in ("status", "db upgrade"):
            with pytest.raises(DatabaseError, match="cannot reach the database"):
                CliRunner().invoke(hsstar, [*command.split()], catch_exceptions=False)
        assert time.monotonic() - begun < QUICK_SECONDS


def test_all_is_well(database: Database, embedded_broker: str, tmp_path: Path) -> None:
    with database.begin() as connection:
        workers.register(connection, "w", "host", 1, "verify", version="0.0.7")
    environment = {
        "HSSTAR_DATABASE_URL": database.url,
        "HSSTAR_BROKER_URL": embedded_broker,
        "HSSTAR_HOME": str(tmp_path),
    }
    done = run(environment, "doctor")
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout
    assert all(line.split()[0] in ("ok", "warn") for line in lines)
    for start in ("ok   database: Postgres", "ok   schema:", "ok   broker: redis answers at", "ok   clock:",
                  "ok   sql guard:", "ok   workers: 1 verify", "ok   jobs: 0 open, none stuck",
                  "warn worker versions: other versions than"):  # fmt: skip
        assert any(line.startswith(start) for line in lines), (start, done.stdout)


def findings(check: Iterator[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in check:
        found.setdefault(each.name, []).append(each)
    return found


def test_stuck_jobs_and_lost_workers_are_named(
    database: Database, add_verification: Callable[[], int]
) -> None:
    jobs = [add_verification() for _ in range(3)]
    with database.begin() as connection:
        workers.register(connection, "gone", "host", 1, "verify")
        connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '5 minutes'"))
        connection.execute(
            text("UPDATE jobs SET available_at = now() - interval '5 minutes' WHERE id = :id"),
            {"id": jobs[0]},
        )
        connection.execute(
            text("""
                UPDATE jobs SET state = 'running', worker = 'gone', lease_token = gen_random_uuid(),
                    started_at = now(), lease_expires_at = now() - interval '5 minutes'
                WHERE id = :id
            """),
            {"id": jobs[1]},
        )
        connection.execute(
            text("UPDATE jobs SET state = 'failed', error = 'x', finished_at = now() WHERE id = :id"),
            {"id": jobs[2]},
        )
    found = findings(check_database(lambda: database.url))
    assert [each.level for each in found["jobs"]] == [Level.WARN] * 3
    told = " / ".join(each.text for each in found["jobs"])
    assert "1 verify failed (hsstar jobs list --state failed)" in told
    assert "1 verify running with an expired lease" in told
    assert "1 verify waiting for more than a minute, and no live worker serves verify" in told
    assert found["workers"][0].text.startswith("none is at work")
    assert found["lost workers"][0].text.endswith("gone")


def test_a_wrong_schema_is_a_failure_and_what_came_before_is_kept(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_newer'"))
    found = examine([Probe("database", lambda: check_database(lambda: database.url))], 20)
    assert [each.level for each in found[:-1]] == [Level.OK] * 3
    assert found[-1].level is Level.FAIL
    assert "newer than this hsstar knows" in found[-1].text


def test_a_check_that_breaks_or_never_ends_hides_no_other() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding(Level.OK, "first", "fine")
        raise ZeroDivisionError("by accident")

    def refuses() -> Iterator[Finding]:
        raise BrokerError("away")

    ends = Event()

    def hangs() -> Iterator[Finding]:
        ends.wait()
        return iter([])

    begun = time.monotonic()
    found = examine(
        [Probe("a", breaks), Probe("b", refuses), Probe("c", hangs), Probe("gpus", check_gpus)], 0.5
    )
    ends.set()
    assert time.monotonic() - begun < 10
    told = [(each.level, each.name, each.text) for each in found]
    assert told[:4] == [
        (Level.OK, "first", "fine"),
        (Level.FAIL, "a", "ZeroDivisionError: by accident"),
        (Level.FAIL, "b", "away"),
        (Level.FAIL, "c", "no answer within 0.5 s"),
    ]


def test_servers_that_are_not_up_are_said_so() -> None:
    def nowhere() -> str:
        raise DatabaseError("no database: run hsstar up")

    assert examine([Probe("database", lambda: check_database(nowhere))], 5)[0].text.startswith("no database")
    assert examine([Probe("broker", lambda: check_broker(nowhere, None))], 5)[0].level is Level.FAIL


def test_engines_are_really_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken and endless packages stand before the real ones."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so is missing')")
    (tmp_path / "transformers.py").write_text("version = 1")
    (tmp_path / "trl.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {name: entries[0] for name, entries in findings(check_engines(3.0)).items()}
    assert found["torch"].level is Level.FAIL
    assert "cannot be imported: ImportError: libcudart.so is missing" in found["torch"].text
    assert found["transformers"].level is Level.OK
    assert "its import has not ended within 3 s" in found["trl"].text


def test_each_file_system_is_named_once(tmp_path: Path) -> None:
    (found,) = check_disk({"home": tmp_path / "a", "models": tmp_path / "b" / "c"})
    assert found.text.endswith("(home, models)")
    assert "GB free" in found.text
