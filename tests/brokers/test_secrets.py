"""Passwords of the database and the broker: from files of mode 0600, and in nothing that anybody can read."""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from hsstar.cli.main import main
from hsstar.store.database import Database
from tests.brokers.conftest import fleet_of_two
from tests.brokers.servers import PASSWORD, PgBouncer, Server
from tests.waiting import wait_for

Command = Callable[[str], tuple[int, str]]


@pytest.fixture
def environment(bouncer: PgBouncer, redis: Server, database: Database, tmp_path: Path) -> dict[str, str]:
    """Settings whose secrets lie in files; the broker without and the database with a user."""
    urls = {
        "HSSTAR_DATABASE_URL": bouncer.url(str(make_url(database.url).database)),
        "HSSTAR_BROKER_URL": redis.urls["redis"],
    }
    for variable, url in urls.items():
        (tmp_path / variable).write_text(f"{url}\n")
        (tmp_path / variable).chmod(0o600)
    files = {f"{variable}_FILE": str(tmp_path / variable) for variable in urls}
    return files | {"HSSTAR_HOME": str(tmp_path / "home"), "HSSTAR_LOG_LEVEL": "debug", "SPT_NOENV": "1"}


def run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hsstar.cli", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def command(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs a command in this process; its exit code, and all that a user sees of it."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

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

    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    yield call
    logging.getLogger().setLevel(level)


def texts_below(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text(errors="replace")
        for file in folder.rglob("*")
        if file.is_file() and not file.is_socket()
    }


def test_nothing_that_a_user_sees_shows_a_password(
    environment: dict[str, str], command: Command, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    with fleet_of_two(tmp_path, environment) as fleet:
        wait_for(lambda: command("workers")[1].count("idle") == 2, 120, lambda: fleet.said)
        family = [
            psutil.Process(fleet.process.pid),
            *psutil.Process(fleet.process.pid).children(recursive=True),
        ]
        assert len(family) >= 3
        said = [" ".join(member.cmdline()) for member in family]
        for line in (
            "workers", "status", "jobs list", "db current", "runs list", "runs show nothing", "sql nonsense",
            "--debug sql nonsense", "status nothing",
        ):  # fmt: skip
            said.append(command(line)[1])
            assert said[-1]
        doctor = run(environment, "doctor")  # it ends its process
        said += [doctor.stdout, doctor.stderr, caplog.text]
        assert "ok   broker: redis answers at" in doctor.stdout
        assert fleet.end() == 0
        said.append(fleet.said)
    written = texts_below(Path(environment["HSSTAR_HOME"]))
    assert sum(name.endswith(".log") for name in written) == 2
    for text in (*said, *written.values()):
        assert PASSWORD not in text


def test_up_and_down_show_no_password_either(environment: dict[str, str]) -> None:
    said = []
    for command in ("up --workers sample=0,score=0,train=0", "status", "down"):
        done = run(environment, *command.split())
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    written = texts_below(Path(environment["HSSTAR_HOME"]))
    assert {"logs/supervisor.log", "logs/verify-1.log", "supervisor.json", "state.json"} <= written.keys()
    for text in (*said, *written.values()):
        assert PASSWORD not in text


def test_errors_of_the_login_show_no_password(environment: dict[str, str], command: Command) -> None:
    for variable in ("HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL"):
        file = Path(environment[f"{variable}_FILE"])
        file.write_text(file.read_text().replace(PASSWORD, "n0t-it"))
    doctor = run(environment, "doctor")
    said = [(doctor.returncode, doctor.stdout + doctor.stderr)]
    said += [command(line) for line in ("status", "worker --role verify", "db upgrade", "--debug status")]
    for code, text in said:
        assert code == 1
        assert "refuses the login" in text
        assert "n0t-it" not in text


def test_a_file_that_others_may_read_is_refused(environment: dict[str, str], command: Command) -> None:
    file = Path(environment["HSSTAR_DATABASE_URL_FILE"])
    file.chmod(0o640)
    code, said = command("status")
    assert code == 1
    assert (
        said
        == f"hsstar: HSSTAR_DATABASE_URL_FILE: {file} is open to others (mode 0640); run: chmod 600 {file}\n"
    )
    assert "FAIL settings" in run(environment, "doctor").stdout
