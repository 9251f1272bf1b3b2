"""`hsstar doctor`, and every other command, when servers are away; and what is stuck."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from hsstar.cli import doctor
from hsstar.cli.main import hsstar
from hsstar.doctor.machine import check_disk, check_engines, check_gpus
from hsstar.doctor.probes import Probe, examine
from hsstar.doctor.servers import check_broker, check_database
from hsstar.domain.errors import BrokerError, DatabaseError
from hsstar.domain.findings import Finding, Level
from hsstar.store.database import Database
from hsstar.store.queue import workers
from tests.brokers.conftest import add_verification
from tests.brokers.servers import free_port
from tests.store.factory import change_jobs

COMMANDS = """status | status run | workers | workers stop --all | runs list | runs show run | jobs list
    | jobs retry | iterate run | models list | problems list | db current | db upgrade
    | worker --role verify | worker --role verify=2 | up"""


def test_every_command_says_that_the_servers_are_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HSSTAR_DATABASE_URL", f"postgresql://me:s3cret@127.0.0.1:{port}/hsstar")
    monkeypatch.setenv("HSSTAR_BROKER_URL", f"redis://127.0.0.1:{port}/0")
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path))
    for command in COMMANDS.split("|"):
        with pytest.raises(DatabaseError, match="cannot reach the database") as refusal:
            CliRunner().invoke(hsstar, command.split(), catch_exceptions=False)
        assert "s3cret" not in str(refusal.value)
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(doctor, "_IMPORT_SECONDS", 0.2)
    done = CliRunner().invoke(hsstar, ["doctor", "--json"])
    found = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert done.exit_code == 1
    assert found["database"]["level"] == found["broker"]["level"] == "FAIL"
    assert "cannot reach the database" in found["database"]["text"]
    assert found["disk"]["level"] in ("ok", "warn")


def test_all_is_well(database: Database, embedded_broker: str, tmp_path: Path) -> None:
    """Its engines are stand-ins, which are imported at once."""
    for package in ("transformers", "trl", "vllm"):
        (tmp_path / f"{package}.py").touch()
    (tmp_path / "torch.py").write_text("class cuda:\n    device_count = staticmethod(lambda: 0)")
    with database.begin() as connection:
        workers.register(connection, "w", "host", 1, "verify", version="0.0.7")
    environment = {
        "HSSTAR_DATABASE_URL": database.url,
        "HSSTAR_BROKER_URL": embedded_broker,
        "HSSTAR_HOME": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
    }
    command = [sys.executable, "-m", "hsstar.cli", "doctor"]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn"}
    for start in (
        *("ok   database: Postgres", "ok   schema:", "ok   broker: redis answers at", "ok   clock:"),
        *("ok   sql guard:", "ok   workers: 1 verify", "ok   jobs: 0 open, none stuck"),
        "warn worker versions: other versions than",
    ):
        assert any(line.startswith(start) for line in lines), (start, done.stdout)


def findings(check: Iterator[Finding]) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for each in check:
        found.setdefault(each.name, []).append(each)
    return found


def test_stuck_jobs_and_lost_workers_are_named(database: Database) -> None:
    waiting, running, failed = (add_verification(database) for _ in range(3))
    with database.begin() as connection:
        workers.register(connection, "gone", "host", 1, "verify")
        connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '5 minutes'"))
        change_jobs(connection, "available_at = now() - interval '5 minutes'", waiting)
        lease = "lease_token = gen_random_uuid(), lease_expires_at = now() - interval '5 minutes'"
        change_jobs(connection, f"state = 'running', worker = 'gone', started_at = now(), {lease}", running)
        change_jobs(connection, "state = 'failed', error = 'x', finished_at = now()", failed)
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
    assert [each.level for each in found] == [Level.OK] * 3 + [Level.FAIL]
    assert "newer than this hsstar knows" in found[-1].text


def test_a_check_that_breaks_or_never_ends_hides_no_other() -> None:
    def breaks() -> Iterator[Finding]:
        yield Finding(Level.OK, "first", "fine")
        raise ZeroDivisionError("by accident")

    def refuses() -> str:
        raise BrokerError("away")

    ends = Event()

    def hangs() -> Iterator[Finding]:
        ends.wait()
        return iter([])

    begun = time.monotonic()
    database, broker = (lambda: check_database(refuses)), (lambda: check_broker(refuses, None))
    probes = {"a": breaks, "b": database, "c": broker, "d": hangs, "gpus": check_gpus}
    found = examine([Probe(name, probe) for name, probe in probes.items()], 0.5)
    ends.set()
    assert time.monotonic() - begun < 10
    assert [(each.level, each.name, each.text) for each in found[:5]] == [
        (Level.OK, "first", "fine"),
        (Level.FAIL, "a", "ZeroDivisionError: by accident"),
        (Level.FAIL, "b", "away"),
        (Level.FAIL, "c", "away"),
        (Level.FAIL, "d", "no answer within 0.5 s"),
    ]


def test_engines_are_really_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken and endless packages stand before the real ones."""
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so is missing')")
    (tmp_path / "transformers.py").write_text("version = 1")
    (tmp_path / "trl.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {name: entries[0] for name, entries in findings(check_engines(1.5)).items()}
    assert found["torch"].level is Level.FAIL
    assert "cannot be imported: ImportError: libcudart.so is missing" in found["torch"].text
    assert found["transformers"].level is Level.OK
    assert "its import has not ended within 1.5 s" in found["trl"].text


def test_each_file_system_is_named_once(tmp_path: Path) -> None:
    (found,) = check_disk({"home": tmp_path / "a", "models": tmp_path / "b" / "c"})
    assert found.text.endswith("(home, models)")
    assert "GB free" in found.text
