"""`hsstar doctor`, and every other command, on real servers that are away, and with passwords in files."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import psutil
import pytest
from sqlalchemy import text

from hsstar.cli.main import main
from hsstar.doctor import installation
from hsstar.doctor.machine import check_disk, check_engines, check_gpus
from hsstar.doctor.probes import Probe, examine
from hsstar.doctor.servers import check_broker, check_database
from hsstar.domain.errors import BrokerError
from hsstar.domain.findings import Finding, Level
from hsstar.store.database import Database
from tests.brokers.conftest import add_verification, started_program
from tests.brokers.servers import PASSWORD, Server, free_port, through
from tests.store.factory import add_worker, change_jobs
from tests.waiting import wait_for

Command = Callable[[str], tuple[int, str]]
COMMANDS = """status | status run | workers | workers stop --all | runs list | runs show run | jobs list
    | jobs retry | iterate run | models list | problems list | db current | db upgrade
    | worker --role verify | worker --role verify=2 | up"""
SHOWING = """workers | status | jobs list | db current | runs list | runs show nothing | doctor
    | sql nonsense | --debug sql nonsense | status nothing | workers stop verify-cpu1"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; its exit code, and all that a user sees of it."""
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(os, "_exit", sys.exit)  # the doctor's end
    monkeypatch.setattr(installation, "_IMPORT_SECONDS", 0.2)

    def call(line: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hsstar", *line.split()])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # with --debug
            sys.excepthook(*sys.exc_info())
            code = 1
        seen = capfd.readouterr()
        return code, seen.out + seen.err

    return call


def test_every_command_says_that_the_servers_are_away(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("HSSTAR_DATABASE_URL", f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/hsstar")
    monkeypatch.setenv("HSSTAR_BROKER_URL", f"redis://127.0.0.1:{port}/0")
    for line in COMMANDS.split("|"):
        code, said = command(line)
        assert (code, "cannot reach the database" in said, PASSWORD in said) == (1, True, False), line
    code, said = command("doctor --json")
    found = {entry["name"]: entry for entry in json.loads(said)}
    levels = {name: found[name]["level"] for name in ("database", "broker")}
    assert (code, levels) == (1, {"database": "FAIL", "broker": "FAIL"})
    assert "cannot reach the database" in found["database"]["text"]
    assert found["disk"]["level"] in ("ok", "warn")


def test_all_is_well(database: Database, embedded_broker: str, tmp_path: Path) -> None:
    """Its engines are stand-ins, which are imported at once."""
    for package in ("transformers", "trl", "vllm"):
        (tmp_path / f"{package}.py").touch()
    (tmp_path / "torch.py").write_text("class cuda:\n    device_count = staticmethod(lambda: 0)")
    with database.begin() as connection:
        add_worker(connection, "w", "verify", version="0.0.7")
    servers = {"HSSTAR_DATABASE_URL": database.url, "HSSTAR_BROKER_URL": embedded_broker}
    environment = os.environ | servers | dict.fromkeys(("HSSTAR_HOME", "PYTHONPATH"), str(tmp_path))
    command = [sys.executable, "-m", "hsstar.cli", "doctor"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
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
        add_worker(connection, "gone", "verify")
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
    assert [found[name].level for name in ("torch", "transformers")] == [Level.FAIL, Level.OK]
    assert "cannot be imported: ImportError: libcudart.so is missing" in found["torch"].text
    assert "its import has not ended within 1.5 s" in found["trl"].text


def test_a_gpu_without_bfloat16_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package says what PyTorch says on such a machine."""
    (tmp_path / "torch.py").write_text(
        "class cuda:\n"
        "    device_count = staticmethod(lambda: 1)\n"
        "    is_bf16_supported = staticmethod(lambda including_emulation: False)\n"
    )
    for package in ("transformers", "trl", "vllm"):
        (tmp_path / f"{package}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    imported, warned = findings(check_engines(5))["torch"]
    assert (imported.level, warned.level) == (Level.OK, Level.WARN)
    assert warned.text == 'its GPU has no bfloat16: set policy.dtype and reward.dtype to "float16"'


def test_each_file_system_is_named_once(tmp_path: Path) -> None:
    (found,) = check_disk({"home": tmp_path / "a", "models": tmp_path / "b" / "c"})
    assert found.text.endswith("(home, models)")
    assert "GB free" in found.text


@pytest.fixture
def files(
    bouncer: Server, redis: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """The files that the settings name, by variable; the broker's URL has no user."""
    urls = {"HSSTAR_DATABASE_URL": through(bouncer, database), "HSSTAR_BROKER_URL": redis.urls["redis"]}
    files = {variable: tmp_path / variable for variable in urls}
    for variable, file in files.items():
        file.touch(0o600)
        file.write_text(f"{urls[variable]}\n")
        monkeypatch.setenv(f"{variable}_FILE", str(file))
    monkeypatch.setenv("HSSTAR_LOG_LEVEL", "debug")
    monkeypatch.setenv("SPT_NOENV", "1")
    return files


def texts_below(folder: Path) -> dict[str, str]:
    """The logs and files of a home."""
    return {
        str(file.relative_to(folder)): file.read_text(errors="replace")
        for file in folder.rglob("*")
        if file.is_file() and not file.is_socket()
    }


@pytest.mark.heavy
@pytest.mark.usefixtures("files")
def test_nothing_of_a_fleet_shows_a_password_until_its_last_worker_was_asked_to_stop(
    command: Command, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    ended = "was asked to stop and has ended; it is not started again"
    argv = [sys.executable, "-m", "hsstar.cli", "worker", "--role", "verify=2"]
    with started_program(argv, tmp_path / "fleet.log", {}) as fleet:
        wait_for(lambda: command("workers")[1].count("idle") == 2, 120, lambda: fleet.said)
        supervisor = psutil.Process(fleet.process.pid)
        family = [supervisor, *supervisor.children(recursive=True)]
        assert len(family) >= 3
        texts = [" ".join(member.cmdline()) for member in family]
        for line in SHOWING.split("|"):
            texts.append(command(line)[1])
            assert texts[-1], line
        wait_for(lambda: fleet.said.count(ended) == 1, 60, lambda: fleet.said)
        assert command("workers")[1].count("idle") == 1
        command("workers stop --all")
        assert fleet.process.wait(120) == 0
        assert (fleet.said.count("started, pid"), fleet.said.count(ended)) == (2, 2)
    written = texts_below(tmp_path / "home")
    assert sum(name.endswith(".log") for name in written) == 2
    assert [said for said in (*texts, caplog.text, fleet.said, *written.values()) if PASSWORD in said] == []


@pytest.mark.usefixtures("files")
def test_up_and_down_show_no_password_either(command: Command, tmp_path: Path) -> None:
    lines = ("up --workers sample=0,score=0,train=0", "status", "doctor", "down")
    done = [command(line) for line in lines]
    assert [code for code, _ in done] == [0, 0, 0, 0]
    assert "ok   broker: redis answers at" in done[2][1]
    written = texts_below(tmp_path / "home")
    assert {"logs/supervisor.log", "logs/verify-1.log", "supervisor.json", "state.json"} <= written.keys()
    assert [said for said in (*(said for _, said in done), *written.values()) if PASSWORD in said] == []


def test_errors_of_the_login_show_no_password(files: dict[str, Path], command: Command) -> None:
    for file in files.values():
        file.write_text(file.read_text().replace(PASSWORD, "n0t-it"))
    for line in ("doctor", "status", "worker --role verify", "db upgrade", "--debug status"):
        code, said = command(line)
        assert (code, "refuses the login" in said, "n0t-it" in said) == (1, True, False), line


def test_a_file_that_others_may_read_is_refused(files: dict[str, Path], command: Command) -> None:
    file = files["HSSTAR_DATABASE_URL"]
    file.chmod(0o640)
    refusal = f"HSSTAR_DATABASE_URL_FILE: {file} is open to others (mode 0640); run: chmod 600 {file}\n"
    assert command("status") == (1, f"hsstar: {refusal}")
    assert "FAIL settings" in command("doctor")[1]
