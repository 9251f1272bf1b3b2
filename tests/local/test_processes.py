"""Identities of processes, and their end."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hsstar.domain.errors import ConflictError, LocalStackError
from hsstar.local import files, processes
from hsstar.local.processes import ProcessIdentity
from tests.waiting import wait_for


def start(tmp_path: Path, code: str) -> ProcessIdentity:
    argv = [sys.executable, "-c", f"{code}; print('ready', flush=True); import time; time.sleep(600)"]
    identity = processes.start_detached(argv, tmp_path / "log", directory=tmp_path, environment=os.environ)
    assert identity is not None
    wait_for(lambda: "ready" in (tmp_path / "log").read_text())
    return identity


def test_a_process_has_the_same_identity_as_long_as_it_lives(tmp_path: Path) -> None:
    identity = start(tmp_path, "pass")
    another = ProcessIdentity(identity.pid, "another boot:1")
    assert processes.identify(identity.pid) == identity
    assert (processes.alive(identity), processes.alive(another)) == (True, False)
    processes.stop([identity], 5.0)
    assert not processes.alive(identity)


def test_a_zombie_is_not_alive() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert processes.identify(child.pid) is None
    child.wait()


def test_who_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    identity = start(tmp_path, "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)")
    begin = time.monotonic()
    processes.stop([identity], 0.3)
    assert 0.3 <= time.monotonic() - begin < 30.0
    assert not processes.alive(identity)


def test_a_family_ends_together(tmp_path: Path) -> None:
    code = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session=True)"
    identity = start(tmp_path, code)
    (child,) = processes.descendants(identity)
    processes.stop([identity], 5.0, families=True)
    assert not processes.alive(child)


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LONGEST_LOG_BYTES", 10)
    log = tmp_path / "worker.log"
    for line in (b"first line\n", b"second line\n"):
        with processes.open_log(log) as output:
            output.write(line)
    texts = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert texts == {"worker.log": b"second line\n", "worker.log.1": b"first line\n"}


def test_a_long_log_is_shortened_while_its_process_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LONGEST_LOG_BYTES", 2_000)
    log = tmp_path / "worker.log"
    program = "import itertools, time\nfor n in itertools.count(): print(n, flush=True), time.sleep(0.001)"
    child = processes.start([sys.executable, "-c", program], log, directory=tmp_path, environment={})
    try:
        for _ in range(2):
            wait_for(lambda: log.stat().st_size > 2_000)
            processes.shorten_log(log)
            assert log.stat().st_size < 2_000
        wait_for(lambda: log.stat().st_size > 0)
    finally:
        child.kill()
        child.wait()
    older, newer = log.with_name("worker.log.1").read_text(), log.read_text()
    assert 0 not in (len(older), len(newer)) and "\0" not in older + newer
    assert int(older.split()[0]) < int(newer.split()[-1])
    processes.shorten_log(tmp_path / "none.log")


def test_a_lock_keeps_others_out_and_names_itself(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    for _ in range(2):
        with files.locked(lock, 0.1), pytest.raises(ConflictError, match="lock"), files.locked(lock, 0.1):
            pass


def test_a_half_written_json_file_counts_as_none(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    files.write_json(file, {"a": 1})
    assert (files.read_json(file), file.stat().st_mode & 0o777) == ({"a": 1}, 0o600)
    file.write_text('{"a": ')
    assert files.read_json(file) is None


def test_a_full_disk_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.check_room(tmp_path / "not" / "there" / "yet")
    monkeypatch.setattr(files, "LEAST_FREE_BYTES", 1 << 62)
    with pytest.raises(LocalStackError, match=r"free .* make room there"):
        files.check_room(tmp_path / "not" / "there" / "yet")
