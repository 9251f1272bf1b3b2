"""Homes that are seen from elsewhere, moved, copied or half gone: no data are lost, none begin silently."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from hsstar.domain.errors import ConflictError, LocalStackError
from hsstar.local import holders, places, processes
from hsstar.local.accounts import account_for
from hsstar.local.stack import Stack
from tests.local.conftest import Place, worker
from tests.waiting import wait_for

NOTE = "CREATE TABLE IF NOT EXISTS note AS SELECT 1 AS number"


def note(stack: Stack) -> None:
    with psycopg.connect(stack.database_url) as connection:
        connection.execute(NOTE)


def noted(stack: Stack) -> bool:
    with psycopg.connect(stack.database_url) as connection:
        return bool(connection.execute("SELECT to_regclass('note') IS NOT NULL").fetchone() == (True,))


def in_another_namespace(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of hsstar that sees the same folders and none of this namespace's processes."""
    program = [sys.executable, "-P", "-m", "hsstar.cli", *arguments]
    environment = os.environ | place.settings.as_environment()
    return subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.heavy
def test_a_stack_is_neither_started_nor_stopped_from_another_namespace(place: Place) -> None:
    stack = place.stack()
    before = stack.up({"sampler": 1}, command=worker)
    files = {server.name: [file for file in server.remains if file.exists()] for server in stack.embedded}
    note(stack)
    for arguments in (("up", "--workers", "sample=0,score=0,verify=0,train=0"), ("down",), ("status",)):
        done = in_another_namespace(place, *arguments)
        assert done.returncode != 0
        assert f"hsstar is up in {place.home} on {socket.gethostname()} since 20" in done.stderr
        assert done.stderr.count("\n") == 1
    assert place.stack().status() == before
    assert files == {
        server.name: [file for file in server.remains if file.exists()] for server in stack.embedded
    }
    assert noted(stack)


@pytest.mark.heavy
def test_servers_without_a_supervisor_are_still_another_namespaces(place: Place) -> None:
    stack = place.stack()
    stack.up({"sampler": 1}, command=worker)
    kill_supervisor(stack)
    for arguments in (("up",), ("down",)):
        assert f"hsstar is up in {place.home} on" in in_another_namespace(place, *arguments).stderr
    note(stack)
    place.stack().down()


def kill_supervisor(stack: Stack) -> None:
    pid = stack.status().supervisor_pid
    identity = processes.identify(pid) if pid else None
    assert identity is not None
    processes.kill([identity])


@pytest.mark.heavy
def test_what_a_gone_container_left_is_cleared(place: Place) -> None:
    """All processes of its namespace died with it; the pid file and the lock's content stay."""
    script = (
        f"{sys.executable} -P -c 'import sys; from tests.local.conftest import Place; "
        "from pathlib import Path; Place(Path(sys.argv[1])).postgres().start()' "
        f"{place.root} && echo up"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "up\n", done.stderr
    server = place.postgres()
    assert server.pid_file.exists()
    assert server.elsewhere() is None
    server.start()
    assert server.is_running()


def test_the_lock_lives_as_long_as_any_process_of_the_server(place: Place) -> None:
    server = place.postgres()
    server.start()
    lock = server.directory / "running.lock"
    found = holders.holder(lock)
    assert found is not None
    assert found.is_here
    assert str(found).startswith(f"on {socket.gethostname()} since 20")
    assert holders.hold(lock, 0) is None
    with suppress(psycopg.OperationalError), psycopg.connect(server.url) as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        identity = server.identity()
        assert identity is not None
        assert row is not None
        os.kill(row[0], signal.SIGSTOP)  # so that it outlives its postmaster
        try:
            processes.kill([identity])
            assert holders.holder(lock) == found
        finally:
            os.kill(row[0], signal.SIGCONT)
    wait_for(lambda: holders.holder(lock) is None)
    server.start()


@pytest.mark.parametrize("found", ["another boot", "another host"])
def test_a_lock_that_nobody_holds_says_nothing(tmp_path: Path, found: str) -> None:
    lock = tmp_path / "running.lock"
    lock.write_text(f'{{"host": "{found}", "boot": "x", "namespace": "y", "since": "z"}}')
    assert holders.holder(lock) is None
    descriptor = holders.hold(lock)
    assert descriptor is not None
    held = holders.holder(lock)
    assert held is not None
    assert held.is_here
    assert not replace(held, boot="x").is_here
    assert not replace(held, namespace="y").is_here
    os.close(descriptor)
    assert holders.holder(lock) is None


@pytest.mark.heavy
def test_a_home_that_moved_finds_its_data(place: Place, tmp_path: Path) -> None:
    place.stack().up({}, command=worker)
    note(place.stack())
    place.stack().down()
    moved = place.root / "moved"
    place.home.rename(moved)
    try:
        stack = Stack(replace(place.settings, home=moved), grace_seconds=3.0)
        stack.up({}, command=worker)
        assert noted(stack)
        # what is made at the old place begins anew, and does not take the data
        assert place.stack().postgres.places.folder == stack.postgres.places.folder
        stack.down()
    finally:
        moved.rename(place.home)


@pytest.mark.heavy
def test_the_environment_may_forget_where_the_data_are(place: Place) -> None:
    stack = place.stack()
    stack.up({}, command=worker)
    note(stack)
    forgetful = Stack(replace(place.settings, server_dir=None), grace_seconds=3.0)
    assert forgetful.database_url == stack.database_url
    forgetful.down()
    forgetful.up({}, command=worker)
    assert noted(forgetful)


@pytest.mark.heavy
def test_data_that_moved_are_found_below_the_server_dir(place: Place, tmp_path: Path) -> None:
    stack = place.stack()
    stack.up({}, command=worker)
    note(stack)
    stack.down()
    other = place.root / "other"
    settings = replace(place.settings, server_dir=other)
    folder = stack.postgres.places.folder
    with pytest.raises(LocalStackError, match=rf"are in {folder}, not in HSSTAR_SERVER_DIR; .* mv "):
        Stack(settings).up({}, command=worker)
    other.mkdir()
    other.chmod(0o755)
    folder.rename(other / folder.name)
    stack = Stack(settings, grace_seconds=3.0)
    stack.up({}, command=worker)
    assert noted(stack)
    stack.down()
    (other / folder.name).rename(folder)


@pytest.mark.heavy
def test_no_empty_database_begins_silently_where_the_old_one_is_gone(place: Place) -> None:
    stack = place.stack()
    stack.up({}, command=worker)
    stack.down()
    folder = stack.postgres.places.folder
    folder.rename(place.root / "gone")
    with pytest.raises(LocalStackError, match=rf"were in {folder}, and nothing is there.* --new-database"):
        place.stack().up({}, command=worker)
    assert not folder.exists()
    place.stack().up({}, new_database=True, command=worker)
    assert not noted(place.stack())


@pytest.mark.heavy
def test_no_empty_database_begins_silently_beside_checkpoints(place: Place) -> None:
    (place.home / "models/run/M1").mkdir(parents=True)
    with pytest.raises(LocalStackError, match=r"models/run/M1 was made with a database that is not in"):
        place.stack().up({}, command=worker)
    place.stack().up({}, new_database=True, command=worker)
    place.stack().down()
    place.stack().up({}, command=worker)


@pytest.mark.heavy
def test_a_copied_home_does_not_take_the_data_of_the_first(place: Place) -> None:
    place.stack().up({}, command=worker)
    note(place.stack())
    place.stack().down()
    copy = place.root / "copy"
    shutil.copytree(place.home, copy)
    stack = Stack(replace(place.settings, home=copy), grace_seconds=3.0)
    with pytest.raises(ConflictError, match=f"holds the data of {place.home}; if {copy} is a copy"):
        stack.up({}, command=worker)
    (copy / places.RECORD_FILE).unlink()
    stack.up({}, new_database=True, command=worker)
    assert not noted(stack)
    stack.down()


def test_sockets_lie_where_the_environment_says(place: Place) -> None:
    folder = place.root  # short
    account = replace(account_for(folder), user_id=os.getuid())
    name = f"hsstar-{os.getuid()}-12345678"
    session = {"XDG_RUNTIME_DIR": str(folder)}
    find = places.socket_directory
    assert find("123456789", account, Path("/run/own"), session) == Path("/run/own") / name
    assert find("123456789", account, None, session) == folder / name
    assert find("123456789", account, None, {}) == places.SOCKET_PARENT / name
    stranger = replace(account, user_id=os.getuid() + 1)
    assert find("123456789", stranger, None, session).parent == places.SOCKET_PARENT
    assert find("123456789", account, None, {"XDG_RUNTIME_DIR": "relative"}).parent == places.SOCKET_PARENT
    long = folder / ("long" * 20)
    long.mkdir()
    assert find("123456789", account, None, {"XDG_RUNTIME_DIR": str(long)}).parent == places.SOCKET_PARENT
    with pytest.raises(LocalStackError, match=r"HSSTAR_RUNTIME_DIR=.* is too long"):
        find("123456789", account, long, {})


def test_a_login_that_takes_its_folder_along_holds_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = account_for(tmp_path)
    assert places._outlives_login(tmp_path, replace(account, user_id=os.getuid()))
    monkeypatch.setattr(places, "_LINGER", tmp_path)
    monkeypatch.setattr(places, "_LOGINS", tmp_path)
    by_login = tmp_path / str(os.getuid())
    by_login.mkdir()
    mine = replace(account, user_id=os.getuid())
    assert not places._outlives_login(by_login, mine)
    (tmp_path / account.name).touch()
    assert places._outlives_login(by_login, mine)


@pytest.mark.heavy
def test_a_wiped_socket_folder_is_mended(place: Place) -> None:
    stack = place.stack()
    stack.up({"sampler": 1}, command=worker)
    note(stack)
    sampler = stack.status().workers
    for folder in {server.socket_directory for server in stack.embedded}:
        shutil.rmtree(folder)
    wait_for(lambda: all(server.is_reachable() for server in stack.embedded), 40)
    wait_for(lambda: stack.postgres.is_ready() and stack.broker.is_ready(), 20)
    assert noted(stack)
    assert stack.status().workers == sampler
    log = (stack.logs / "supervisor.log").read_text()
    assert "postgres has lost its socket and is started again" in log


@pytest.mark.heavy
def test_up_mends_a_wiped_socket_folder_where_no_supervisor_does(place: Place) -> None:
    stack = place.stack()
    before = stack.up({"sampler": 1}, command=worker)
    note(stack)
    assert before.supervisor_pid is not None
    os.kill(before.supervisor_pid, signal.SIGKILL)
    wait_for(lambda: stack.status().supervisor_pid is None)
    for folder in {server.socket_directory for server in stack.embedded}:
        shutil.rmtree(folder)
    after = stack.up({"sampler": 1}, command=worker)
    assert noted(stack)
    assert not {each.pid for each in after.servers} & {each.pid for each in before.servers}
