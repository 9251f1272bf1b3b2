"""`up`, `down` and `status` with real processes, and what happens when some of them die."""

import ast
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

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

URLS = ("postgresql://me:secret@there/hsstar", "redis://there:6379/0")
run = partial(subprocess.run, capture_output=True, text=True, check=False)


def workers_only(place: Place) -> Stack:
    """A stack whose servers are somebody else's: quick to start."""
    settings = replace(place.settings, database_url=URLS[0], broker_url=URLS[1])
    return Stack(settings, grace_seconds=1.0)


def parts_of(status: StackStatus) -> list[ServerStatus | WorkerState]:
    return [*status.servers, *status.workers]


def all_run(status: StackStatus) -> bool:
    return bool(status.supervisor_pid) and all(part.pid for part in parts_of(status))


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def wait_until_stubborn(place: Place) -> None:
    """Waits until the stubborn worker ignores the request to end."""
    wait_for(lambda: (place.home / "stubborn-1.environment").exists())


def test_up_down_up(place: Place) -> None:
    seen: list[str] = []
    status = place.stack().up({"sampler": 2, "verifier": 1}, prepare=seen.append, command=worker)
    assert all_run(status)
    names = ["postgres", "broker", "sampler-1", "sampler-2", "verifier-1"]
    assert [part.name for part in parts_of(status)] == names
    assert seen == [status.database_url]
    with psycopg.connect(status.database_url) as connection:
        connection.execute("CREATE TABLE note AS SELECT 1 AS number")
    place.stack().down()
    assert [part.name for part in parts_of(status) if psutil.pid_exists(part.pid or 0)] == []
    assert not place.stack().status().supervisor_pid
    with pytest.raises(ConflictError, match="not up"):
        place.stack().down()
    status = place.stack().up({"sampler": 1}, command=worker)
    assert all_run(status)
    with psycopg.connect(status.database_url) as connection:
        assert connection.execute("SELECT number FROM note").fetchone() == (1,)


def test_a_second_up_and_a_second_supervisor_disturb_nothing(place: Place) -> None:
    stack = workers_only(place)
    before = stack.up({"sampler": 1}, command=worker)
    with pytest.raises(ConflictError, match=r"already up .*see `hsstar status`"):
        stack.up({"sampler": 1}, command=worker)
    with pytest.raises(ConflictError, match=r"sampler: 1 and not sampler: 2; to change .* `hsstar down`"):
        stack.up({"sampler": 2}, command=worker)
    again = run([sys.executable, "-m", "hsstar.local.supervisor", str(place.home)])
    assert (again.returncode, "another supervisor" in again.stdout) == (1, True)
    assert stack.status() == before


def test_of_two_ups_at_the_same_moment_one_wins(place: Place) -> None:
    def go_up(_: int) -> bool:
        try:
            return workers_only(place).up({"sampler": 1}, command=worker).supervisor_pid is not None
        except ConflictError:
            return False

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(go_up, range(2))) == [False, True]
    assert len(workers_only(place).status().workers) == 1


def test_workers_find_their_settings_in_the_environment(place: Place) -> None:
    own = {"sampler": {"TEST_THREADS": "1"}, "trainer": {}}
    workers_only(place).up({"sampler": 1}, command=worker, role_environment=own)
    file = place.home / "sampler-1.environment"
    wait_for(lambda: file.exists() and file.read_text().endswith("}"))
    seen = ast.literal_eval(file.read_text())
    names = ("HSSTAR_HOME", "HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL", "TEST_THREADS")
    assert [seen[name] for name in names] == [str(place.home), *URLS, "1"]
    assert (place.home / "logs" / "sampler-1.log").read_text() == "sampler-1 has started\n"
    assert not place.servers.exists()  # nothing embedded was made
    written = [file.read_text() for file in place.home.glob("*.json")]
    assert (len(written), "secret" in "".join(written)) == (2, False)


def test_a_dead_worker_is_started_again_and_its_children_are_not_left(place: Place) -> None:
    stack = workers_only(place)
    (before,) = stack.up({"parent": 1}, command=worker).workers
    parent = before.process
    assert parent is not None
    (child,) = wait_for(lambda: processes.descendants(parent))
    kill(before.pid)
    wait_for(lambda: stack.status().workers[0].restarts == 1 and stack.status().workers[0].pid is not None)
    assert stack.status().workers[0].pid != before.pid
    wait_for(lambda: not processes.alive(child))


def test_a_worker_that_ignores_the_request_to_end_is_killed(place: Place) -> None:
    stack = workers_only(place)
    (stubborn,) = stack.up({"stubborn": 1}, command=worker).workers
    wait_until_stubborn(place)
    assert processes.alive(stubborn.process)
    stack.down()
    assert not processes.alive(stubborn.process)
    assert "1 workers had to be killed" in (stack.logs / "supervisor.log").read_text()


@pytest.mark.slow
def test_workers_end_with_a_killed_supervisor_and_up_works_again(place: Place) -> None:
    stack = workers_only(place)
    status = stack.up({"sampler": 1, "stubborn": 1}, command=worker)
    wait_until_stubborn(place)
    sampler, stubborn = (each.process for each in status.workers)
    kill(status.supervisor_pid)
    if sys.platform == "linux":
        wait_for(lambda: not processes.alive(sampler))
    assert not stack.status().supervisor_pid
    assert processes.alive(stubborn)
    assert all_run(stack.up({"sampler": 1}, command=worker))
    assert not processes.alive(stubborn)


@pytest.mark.heavy
def test_killed_servers_come_back(place: Place) -> None:
    stack = place.stack()
    before = stack.up({"sampler": 1}, command=worker)
    for server in before.servers:
        kill(server.pid)
    wait_for(lambda: all_run(stack.status()) and stack.broker.is_ready() and stack.postgres.is_ready())
    assert not {each.pid for each in stack.status().servers} & {each.pid for each in before.servers}
    with psycopg.connect(before.database_url) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.heavy
def test_everything_killed_at_once_as_by_a_power_cut(place: Place) -> None:
    place.stack().up({"sampler": 1}, command=worker)
    for process in place.processes():
        process.kill()
    wait_for(lambda: place.processes() == [])
    assert not place.stack().status().supervisor_pid
    assert all_run(place.stack().up({"sampler": 1}, command=worker))


@pytest.mark.slow
def test_down_after_the_supervisor_was_killed_stops_the_servers(place: Place) -> None:
    kill(place.stack().up({}, command=worker).supervisor_pid)
    place.stack().down()
    assert place.processes() == []


def test_a_failed_preparation_leaves_nothing_running(place: Place) -> None:
    def fail(database_url: str) -> None:
        raise LocalStackError("the migration failed")

    with pytest.raises(LocalStackError, match="the migration failed"):
        place.stack().up({"sampler": 1}, prepare=fail, command=worker)
    assert place.processes() == []


def test_a_negative_number_of_workers_and_a_home_that_cannot_be_made_are_refused(place: Place) -> None:
    with pytest.raises(BadInputError, match="negative"):
        place.stack().up({"sampler": -1}, command=worker)
    (place.root / "file").touch()
    stack = Stack(replace(workers_only(place).settings, home=place.root / "file" / "home"))
    with pytest.raises(LocalStackError, match="HSSTAR_HOME"):
        stack.up({"sampler": 1}, command=worker)


def test_an_idle_supervisor_costs_next_to_nothing(place: Place) -> None:
    supervisor = psutil.Process(workers_only(place).up({"sampler": 1}, command=worker).supervisor_pid)
    before, rounds = supervisor.cpu_times(), supervisor.num_ctx_switches().voluntary
    wait_for(lambda: supervisor.num_ctx_switches().voluntary >= rounds + 2)
    after = supervisor.cpu_times()
    assert after.user + after.system - before.user - before.system <= 0.05  # the clock ticks in 0.01 s


def test_files_of_the_working_directory_hide_no_package_from_a_worker(tmp_path: Path) -> None:
    for package in ("celery", "click", "hsstar", "kombu", "torch"):
        (tmp_path / f"{package}.py").write_text(f"raise SystemExit('this is not {package}')")
    command = [*worker_command("verify", "w"), "--help"]
    done = run(command, cwd=tmp_path)
    assert (done.returncode, done.stderr, "--role" in done.stdout) == (0, "", True)
    assert run([part for part in command if part != "-P"], cwd=tmp_path).returncode == 1
