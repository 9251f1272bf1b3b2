"""Passwords of the database and the broker: from files of mode 0600, and in nothing that anybody can read."""

import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hsstar.cli import doctor
from hsstar.cli.main import main
from hsstar.store.database import Database
from tests.brokers.conftest import started_program
from tests.brokers.servers import PASSWORD, Server, through
from tests.waiting import wait_for

Command = Callable[[str], tuple[int, str]]


@pytest.fixture
def files(
    bouncer: Server, redis: Server, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Path]:
    """The files that the settings name, by variable; the broker's URL has no user."""
    urls = {"HSSTAR_DATABASE_URL": through(bouncer, database), "HSSTAR_BROKER_URL": redis.urls["redis"]}
    files = {variable: tmp_path / variable for variable in urls}
    for variable, file in files.items():
        file.write_text(f"{urls[variable]}\n")
        file.chmod(0o600)
        monkeypatch.setenv(f"{variable}_FILE", str(file))
    monkeypatch.setenv("HSSTAR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HSSTAR_LOG_LEVEL", "debug")
    monkeypatch.setenv("SPT_NOENV", "1")
    return files


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process; its exit code, and all that a user sees of it."""
    monkeypatch.setattr(os, "_exit", sys.exit)  # the doctor's end
    monkeypatch.setattr(doctor, "_IMPORT_SECONDS", 0.2)

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


def texts_below(folder: Path) -> dict[str, str]:
    """The logs and files of a home."""
    return {
        str(file.relative_to(folder)): file.read_text(errors="replace")
        for file in folder.rglob("*")
        if file.is_file() and not file.is_socket()
    }


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
        for line in (
            *("workers", "status", "jobs list", "db current", "runs list", "runs show nothing", "doctor"),
            *("sql nonsense", "--debug sql nonsense", "status nothing", "workers stop verify-cpu1"),
        ):
            texts.append(command(line)[1])
            assert texts[-1]
        wait_for(lambda: fleet.said.count(ended) == 1, 60, lambda: fleet.said)
        assert command("workers")[1].count("idle") == 1
        command("workers stop --all")
        assert fleet.process.wait(120) == 0
        assert (fleet.said.count("started, pid"), fleet.said.count(ended)) == (2, 2)
    written = texts_below(tmp_path / "home")
    assert sum(name.endswith(".log") for name in written) == 2
    for text in (*texts, caplog.text, fleet.said, *written.values()):
        assert PASSWORD not in text


@pytest.mark.usefixtures("files")
def test_up_and_down_show_no_password_either(command: Command, tmp_path: Path) -> None:
    lines = ("up --workers sample=0,score=0,train=0", "status", "doctor", "down")
    done = [command(line) for line in lines]
    assert [code for code, _ in done] == [0, 0, 0, 0]
    assert "ok   broker: redis answers at" in done[2][1]
    written = texts_below(tmp_path / "home")
    assert {"logs/supervisor.log", "logs/verify-1.log", "supervisor.json", "state.json"} <= written.keys()
    for text in (*(said for _, said in done), *written.values()):
        assert PASSWORD not in text


def test_errors_of_the_login_show_no_password(files: dict[str, Path], command: Command) -> None:
    for file in files.values():
        file.write_text(file.read_text().replace(PASSWORD, "n0t-it"))
    for line in ("doctor", "status", "worker --role verify", "db upgrade", "--debug status"):
        code, text = command(line)
        assert code == 1
        assert "refuses the login" in text
        assert "n0t-it" not in text


def test_a_file_that_others_may_read_is_refused(files: dict[str, Path], command: Command) -> None:
    file = files["HSSTAR_DATABASE_URL"]
    file.chmod(0o640)
    refusal = f"HSSTAR_DATABASE_URL_FILE: {file} is open to others (mode 0640); run: chmod 600 {file}\n"
    assert command("status") == (1, f"hsstar: {refusal}")
    assert "FAIL settings" in command("doctor")[1]
