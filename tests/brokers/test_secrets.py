"""Passwords of the database and the broker: from files of mode 0600, and in nothing that anybody can read."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import make_url

from hsstar.store.database import Database
from tests.brokers.conftest import fleet_of_two, temporary_folder
from tests.brokers.servers import PASSWORD, PgBouncer, Server, pgbouncer, wait_until


@pytest.fixture(scope="module")
def bouncer(certificates: Path, server_url: str) -> Iterator[PgBouncer]:
    with temporary_folder() as folder, pgbouncer(folder, certificates, server_url, 5) as running:
        yield running


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


def texts_below(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): file.read_text(errors="replace")
        for file in folder.rglob("*")
        if file.is_file() and not file.is_socket()
    }


def test_nothing_that_a_user_sees_shows_a_password(environment: dict[str, str], tmp_path: Path) -> None:
    with fleet_of_two(tmp_path, environment) as fleet:
        wait_until(lambda: run(environment, "workers").stdout.count("idle") == 2, lambda: fleet.said)
        family = [
            psutil.Process(fleet.process.pid),
            *psutil.Process(fleet.process.pid).children(recursive=True),
        ]
        assert len(family) >= 3
        said = [" ".join(member.cmdline()) for member in family]
        for command in (
            "workers", "status", "doctor", "doctor --json", "jobs list", "db current", "runs list",
            "runs show nothing", "sql nonsense", "--debug sql nonsense", "status nothing",
        ):  # fmt: skip
            done = run(environment, *command.split())
            said += [done.stdout, done.stderr]
            assert done.stdout + done.stderr
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


def test_errors_of_the_login_show_no_password(environment: dict[str, str]) -> None:
    for variable in ("HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL"):
        file = Path(environment[f"{variable}_FILE"])
        file.write_text(file.read_text().replace(PASSWORD, "n0t-it"))
    for command in ("status", "worker --role verify", "doctor", "db upgrade", "--debug status"):
        done = run(environment, *command.split())
        assert done.returncode == 1
        assert "refuses the login" in done.stdout + done.stderr
        assert "n0t-it" not in done.stdout + done.stderr


def test_a_file_that_others_may_read_is_refused(environment: dict[str, str]) -> None:
    file = Path(environment["HSSTAR_DATABASE_URL_FILE"])
    file.chmod(0o640)
    begun = time.monotonic()
    done = run(environment, "status")
    assert done.returncode == 1
    assert f"{file} is open to others (mode 0640); run: chmod 600 {file}" in done.stderr
    assert "Traceback" not in done.stderr
    assert "FAIL settings" in run(environment, "doctor").stdout
    assert time.monotonic() - begun < 60
