"""`up`, `down` and `status` with real processes, and what happens when some of them die."""

import ast
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from hsstar.domain.errors import BadInputError, ConflictError, LocalStackError
from hsstar.local import processes
from hsstar.local.server import ServerStatus
from hsstar.local.stack import Stack, StackStatus, worker_command
from hsstar.local.state import WorkerState
from tests.local.conftest import Place, worker
from tests.waiting import wait_for

EXTERNAL: dict[str, Any] = {
    "database_url": "postgresql://me:secret@there/hsstar",
    "broker_url": "redis://there:6379/0",
}


def workers_only(place: Place) -> Stack:
    """A stack whose servers are somebody else's: quick to start."""
    return Stack(replace(place.settings, **EXTERNAL), grace_seconds=1.0)


def parts_of(status: StackStatus) -> list[ServerStatus | WorkerState]:
    return [*status.servers, *status.workers]


def all_run(status: StackStatus) -> bool:
    return bool(status.supervisor_pid) and all(part.pid for part in parts_of(status))


def test_up_down_up(place: Place) -> None:
    seen: list[str] = []
    status = place.stack().up({"sampler": 2, "verifier": 1}, prepare=seen.append, command=worker)
    assert all_run(status)
    assert [server.name for server in status.servers] == ["postgres", "broker"]
    assert [each.name for each in status.workers] == ["sampler-1", "sampler-2", "verifier-1"]
    assert seen == [status.database_url]
    with psycopg.connect(status.database_url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 1 AS number")
    pids = [part.pid for part in parts_of(status)]
    place.stack().down()
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert not place.stack().status().supervisor_pid
    with pytest.raises(ConflictError, match="not up"):
        place.stack().down()
    status = place.stack().up({"sampler": 1}, command=worker)
    assert all_run(status)
    with psycopg.connect(status.database_url) as connection:
        assert connection.execute("SELECT number FROM note").fetchone() == (1,)


def test_a_second_up_disturbs_nothing(place: Place) -> None:
    stack = workers_only(place)
    before = stack.up({"sampler": 1}, command=worker)
    with pytest.raises(ConflictError, match=r"already up .*see `hsstar status`"):
        stack.up({"sampler": 1}, command=worker)
    with pytest.raises(
        ConflictError, match="sampler: 1 and not sampler: 2; to change that, run `hsstar down`"
    ):
        stack.up({"sampler": 2}, command=worker)
    assert stack.status() == before


def test_of_two_ups_at_the_same_moment_one_wins(place: Place) -> None:
    outcomes: list[object] = []

    def go_up() -> None:
        try:
            outcomes.append(workers_only(place).up({"sampler": 1}, command=worker).supervisor_pid is not None)
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=go_up) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count(True) == 1
    assert len(workers_only(place).status().workers) == 1


def test_workers_find_their_settings_in_the_environment(place: Place) -> None:
    workers_only(place).up(
        {"sampler": 1}, command=worker, role_environment={"sampler": {"TEST_THREADS": "1"}, "trainer": {}}
    )
    file = place.home / "sampler-1.environment"
    wait_for(lambda: file.exists() and file.read_text().endswith("}"))
    seen = ast.literal_eval(file.read_text())
    assert seen["HSSTAR_HOME"] == str(place.home)
    assert (seen["HSSTAR_DATABASE_URL"], seen["HSSTAR_BROKER_URL"]) == tuple(EXTERNAL.values())
    assert seen["TEST_THREADS"] == "1"
    assert (place.home / "logs" / "sampler-1.log").read_text() == "sampler-1 has started\n"
    assert not place.servers.exists()  # nothing embedded was made
    written = [file.read_text() for file in place.home.glob("*.json")]
    assert len(written) == 2
    assert "secret" not in "".join(written)


def test_a_dead_worker_is_started_again_and_its_children_are_not_left(place: Place) -> None:
    stack = workers_only(place)
    (before,) = stack.up({"parent": 1}, command=worker).workers
    assert before.pid is not None
    identity = processes.identify(before.pid)
    assert identity is not None
    wait_for(lambda: len(processes.descendants(identity)) == 1)
    (child,) = processes.descendants(identity)
    os.kill(before.pid, signal.SIGKILL)
    wait_for(lambda: stack.status().workers[0].restarts == 1 and stack.status().workers[0].pid is not None)
    assert stack.status().workers[0].pid != before.pid
    wait_for(lambda: not processes.alive(child))


def test_a_worker_that_ignores_the_request_to_end_is_killed(place: Place) -> None:
    stack = workers_only(place)
    (stubborn,) = stack.up({"stubborn": 1}, command=worker).workers
    wait_for(lambda: (place.home / "stubborn-1.environment").exists())
    stack.down()
    assert stubborn.pid is not None
    assert not psutil.pid_exists(stubborn.pid)


def test_workers_end_with_a_killed_supervisor_and_up_works_again(place: Place) -> None:
    stack = workers_only(place)
    status = stack.up({"sampler": 1, "stubborn": 1}, command=worker)
    wait_for(lambda: (place.home / "stubborn-1.environment").exists())
    sampler, stubborn = (each.pid for each in status.workers)
    assert status.supervisor_pid
    assert sampler
    assert stubborn
    os.kill(status.supervisor_pid, signal.SIGKILL)
    if sys.platform == "linux":
        wait_for(lambda: processes.identify(sampler) is None)
    assert not stack.status().supervisor_pid
    assert processes.identify(stubborn) is not None
    status = stack.up({"sampler": 1}, command=worker)
    assert all_run(status)
    assert processes.identify(stubborn) is None


def test_killed_servers_come_back(place: Place) -> None:
    stack = place.stack()
    before = stack.up({"sampler": 1}, command=worker)
    for server in before.servers:
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
    wait_for(lambda: all_run(stack.status()) and stack.broker.is_ready() and stack.postgres.is_ready())
    assert {server.pid for server in stack.status().servers}.isdisjoint(
        server.pid for server in before.servers
    )
    with psycopg.connect(before.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_everything_killed_at_once_as_by_a_power_cut(place: Place) -> None:
    place.stack().up({"sampler": 1}, command=worker)
    for process in place.processes():
        process.kill()
    wait_for(lambda: place.processes() == [])
    assert not place.stack().status().supervisor_pid
    assert all_run(place.stack().up({"sampler": 1}, command=worker))


def test_down_after_the_supervisor_was_killed_stops_the_servers(place: Place) -> None:
    status = place.stack().up({}, command=worker)
    assert status.supervisor_pid
    os.kill(status.supervisor_pid, signal.SIGKILL)
    place.stack().down()
    assert place.processes() == []


def test_a_failed_preparation_leaves_nothing_running(place: Place) -> None:
    def fail(database_url: str) -> None:
        raise LocalStackError("the migration failed")

    with pytest.raises(LocalStackError, match="the migration failed"):
        place.stack().up({"sampler": 1}, prepare=fail, command=worker)
    assert place.processes() == []


def test_a_negative_number_of_workers_is_refused(place: Place) -> None:
    with pytest.raises(BadInputError, match="negative"):
        place.stack().up({"sampler": -1}, command=worker)


def test_a_home_that_cannot_be_made_is_named(place: Place, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stack = Stack(replace(place.settings, **EXTERNAL, home=tmp_path / "file" / "home"))
    with pytest.raises(LocalStackError, match="HSSTAR_HOME"):
        stack.up({"sampler": 1}, command=worker)


def test_an_idle_supervisor_costs_next_to_nothing(place: Place) -> None:
    status = workers_only(place).up({"sampler": 1}, command=worker)
    supervisor = psutil.Process(status.supervisor_pid)
    before, rounds = supervisor.cpu_times(), supervisor.num_ctx_switches().voluntary
    wait_for(lambda: supervisor.num_ctx_switches().voluntary >= rounds + 2)
    after = supervisor.cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.05  # the clock ticks in 0.01 s


def test_files_of_the_working_directory_hide_no_package_from_a_worker(tmp_path: Path) -> None:
    for package in ("celery", "click", "hsstar", "kombu", "torch"):
        (tmp_path / f"{package}.py").write_text(f"raise SystemExit('this is not {package}')")
    command = [*worker_command("verify", "w"), "--help"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--role" in done.stdout
    unsafe = [part for part in command if part != "-P"]
    assert subprocess.run(unsafe, cwd=tmp_path, capture_output=True, check=False).returncode == 1


def test_the_supervisor_refuses_a_home_that_another_one_keeps(place: Place) -> None:
    workers_only(place).up({"sampler": 1}, command=worker)
    again = subprocess.run(
        [sys.executable, "-m", "hsstar.local.supervisor", str(place.home)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert f"another supervisor of {place.home} is up on" in again.stdout
