"""Root's servers run under another account; an ordinary user's run under their own."""

import json
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

import hsstar
from hsstar.domain.errors import LocalStackError
from hsstar.local import binaries, postgres
from tests.local.conftest import WORKER_PROGRAM, Place

as_root = pytest.mark.skipif(os.getuid() != 0, reason="needs root")
MINOR = f"python{sys.version_info.major}.{sys.version_info.minor}"
PYTHONS = (sys.executable, f"/usr/bin/{MINOR}", f"/usr/local/bin/{MINOR}")
ORDINARY = """
import json, os, sys
from hsstar.local.stack import Stack
from hsstar.settings import Settings
import psycopg
settings = Settings.from_environment()
stack = Stack(settings, grace_seconds=3.0)
status = stack.up({"sampler": 1}, command=lambda role, name: [sys.executable, sys.argv[1], role, name])
with psycopg.connect(status.database_url) as connection:
    owner, = connection.execute("SELECT current_user").fetchone()
running = [part.pid is not None for part in (*status.servers, *status.workers)]
folders = [str(server.directory) for server in status.servers]
owners = [os.stat(f"/proc/{server.pid}").st_uid for server in status.servers]
stack.down()
print(json.dumps([owner, running, folders, owners]))
"""


def where_only_root_enters(bundle: binaries.Bundle, root: Path) -> binaries.Bundle:
    for folder in bundle.folders:
        shutil.copytree(bundle.origin / folder, root / "private" / folder)
    (root / "private").chmod(0o700)
    return replace(bundle, origin=root / "private")


@as_root
def test_roots_servers_run_under_an_account_without_rights(place: Place) -> None:
    status = place.stack().up({})
    for server in status.servers:
        process = psutil.Process(server.pid)
        assert process.uids().real == process.uids().effective == place.postgres().account.user_id != 0
        assert process.gids().real != 0
        assert server.directory.stat().st_uid == 0
        assert (server.directory / "data").stat().st_mode & 0o777 == 0o700
    assert place.home.stat().st_mode & 0o777 == 0o700  # and nobody has opened root's home
    default = postgres.Postgres(place.home / "new")
    assert default.directory == Path("/var/lib/hsstar") / default.label / "postgres"


@as_root
def test_programs_that_the_account_cannot_reach_are_copied_once(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = binaries.postgres_bundle("postgres")
    private = where_only_root_enters(bundle, place.root).origin
    find = binaries.postgres_bundle
    monkeypatch.setattr(postgres, "postgres_bundle", lambda name: replace(find(name), origin=private))
    server = place.postgres()
    server.start()
    copy = place.servers / bundle.label
    assert psutil.Process(server.status().pid).exe().startswith(str(copy))
    made = copy.stat().st_mtime_ns
    server.stop()
    server.start()
    assert copy.stat().st_mtime_ns == made
    assert private.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in place.servers.iterdir()} == {bundle.label, server.label}


@as_root
def test_two_copies_at_the_same_moment_make_one(place: Place) -> None:
    valkey = binaries._valkey_bundle()
    assert valkey is not None
    bundle = where_only_root_enters(valkey, place.root)
    place.servers.mkdir()
    with ProcessPoolExecutor(2) as pool:
        both = [pool.submit(bundle.program_for, place.broker().account, place.servers) for _ in range(2)]
    assert [copy.result() for copy in both] == [place.servers / bundle.label / bundle.program] * 2
    assert [file.name for file in place.servers.iterdir()] == [bundle.label]


@as_root
def test_a_missing_setpriv_and_a_folder_that_the_account_cannot_enter_are_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as without, pytest.raises(LocalStackError, match="install util-linux"):
        without.setenv("PATH", "/nowhere")
        place.postgres().start()
    place.servers.chmod(0o700)
    with pytest.raises(LocalStackError, match=rf"cannot enter {place.servers}; set HSSTAR_SERVER_DIR"):
        place.postgres().start()


@pytest.fixture
def strangers_home() -> Iterator[Path]:
    """The home of an ordinary user, who is `nobody` when the tests run as root."""
    with TemporaryDirectory(prefix="hst-", dir="/tmp") as folder:
        if os.getuid() == 0:
            entry = pwd.getpwnam("nobody")
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        yield Path(folder)


def test_an_ordinary_user_needs_nothing_but_their_home(strangers_home: Path) -> None:
    user = strangers_home.stat().st_uid
    setpriv = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "env"]
    switch = setpriv if os.getuid() == 0 else []
    packages = [path for path in sys.path if path.endswith("-packages")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(strangers_home),
        "PYTHONPATH": os.pathsep.join([str(Path(hsstar.__file__).parents[1]), *packages]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*switch, python, *arguments]
        return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)

    probe = ("-c", "import psycopg, psutil, hsstar.local.stack")
    python = next((python for python in PYTHONS if run(python, *probe).returncode == 0), None)
    if python is None:
        pytest.skip("no interpreter that the ordinary user can run")
    done = run(python, "-c", ORDINARY, str(WORKER_PROGRAM))
    assert done.returncode == 0, done.stderr
    folders = [str(strangers_home / ".hsstar" / "servers" / name) for name in ("postgres", "broker")]
    assert json.loads(done.stdout) == ["hsstar", [True, True, True], folders, [user, user]]
    assert list(Path("/tmp").glob(f"hsstar-{user}-*/*")) == []
