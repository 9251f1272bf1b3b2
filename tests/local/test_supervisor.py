"""When a supervisor starts a worker or a server again; Ctrl-C once and twice; the GPUs it shares out."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from hsstar.domain.errors import LocalStackError
from hsstar.domain.lifecycle import WorkerExit
from hsstar.local import processes, supervisor
from hsstar.local.gpus import find_gpus
from hsstar.local.processes import ProcessIdentity
from hsstar.local.state import WorkerSpec
from hsstar.local.supervisor import SupervisedServer, SupervisedWorker, keep_running
from tests.local.conftest import worker
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def spec(program: str, name: str = "w") -> WorkerSpec:
    return WorkerSpec(name, "verify", ("sh", "-c", program), {"TEST_OWN": "its own"})


def wait_for_end(kept: SupervisedWorker) -> None:
    """Waits until its process has ended, and leaves the rest to it."""
    process = kept._process
    assert process is not None
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def pauses_after(kept: SupervisedWorker, lifetimes: Sequence[float]) -> list[float]:
    """Starts it for each of these lifetimes; the pauses after them."""
    now, pauses = 100.0, []
    for number, lifetime in enumerate(lifetimes):
        assert (kept.keep(now), kept.starts) == (True, number + 1)
        wait_for_end(kept)
        now += lifetime
        assert kept.keep(now)
        assert (kept.state().process, kept.state().restarts, kept.drained) == (None, number, False)
        pauses.append(round(kept.next_start - now, 3))
        assert not kept.keep(kept.next_start - 0.01)
        now = kept.next_start
    return pauses


def test_a_worker_that_dies_is_started_again_after_pauses_that_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = SupervisedWorker(spec("echo $TEST_OWN; exit 3"), tmp_path / "w.log", tmp_path)
    growing = [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]
    assert pauses_after(kept, [1, 1, 59, *[1] * 7, 60, 1]) == [*growing, 0.2, 0.4]
    assert kept.log.read_text() == "its own\n" * 12
    assert "w ended with code 3; starts again in 0.8 s" in caplog.text
    assert not kept.incompatible


def test_a_worker_whose_schema_does_not_fit_is_tried_twice_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = SupervisedWorker(spec(f"exit {WorkerExit.WRONG_SCHEMA}"), tmp_path / "w.log", tmp_path)
    assert pauses_after(kept, [1, 1, 99]) == [30.0, 30.0, 30.0]
    assert "does not fit the schema of the database (see its log); starts again in 30.0 s" in caplog.text


def test_a_worker_that_was_asked_to_stop_is_not_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = SupervisedWorker(spec(f"exit {WorkerExit.DRAINED}"), tmp_path / "w.log", tmp_path)
    kept.keep(0.0)
    wait_for_end(kept)
    assert kept.keep(1.0)
    assert not any(kept.keep(float(now)) for now in range(2, 1000, 50))
    assert (kept.drained, kept.starts) == (True, 1)
    assert "w was asked to stop and has ended; it is not started again" in caplog.text


def test_the_signal_that_ended_a_worker_is_named(tmp_path: Path) -> None:
    kept = SupervisedWorker(spec("sleep 600"), tmp_path / "w.log", tmp_path)
    kept.keep(0.0)
    assert kept.identity is not None
    assert kept.reap() is None
    os.kill(kept.identity.pid, signal.SIGKILL)
    wait_for_end(kept)
    assert (kept.reap(), kept.reap()) == ("ended by SIGKILL", None)


def test_a_worker_whose_program_is_missing_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = SupervisedWorker(WorkerSpec("w", "verify", ("/nowhere",)), tmp_path / "w.log", tmp_path)
    assert [kept.keep(now) for now in (5.0, 5.1, 5.2)] == [True, False, True]
    assert (kept.identity, kept.state().restarts) == (None, 1)
    assert "w cannot be started" in caplog.text


def test_a_supervisor_ends_by_itself_with_the_last_worker_that_was_asked_to_stop(tmp_path: Path) -> None:
    program = "test -e again && exit 80; touch again; exit 3"
    before = signal.getsignal(signal.SIGTERM)
    assert keep_running([spec("exit 80", "a"), spec(program, "b")], tmp_path / "logs", tmp_path)
    assert (tmp_path / "again").exists()
    assert signal.getsignal(signal.SIGTERM) is before


class Server:
    name, running, launches = "broker", True, 0
    error: Exception | None = None

    def is_running(self) -> bool:
        return self.running

    def launch(self) -> None:
        self.launches += 1
        if self.error:
            raise self.error


@pytest.mark.parametrize("error", [None, LocalStackError("no room"), OSError("no room")])
def test_a_server_that_has_ended_is_started_again_after_pauses_that_grow(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    server: Any = Server()
    kept = SupervisedServer(server)
    now = kept.started + 1.0
    kept.keep(now)
    assert server.launches == 0
    server.running, server.error = False, error
    for number, pause in enumerate((0.2, 0.4, 0.8)):
        kept.keep(now)
        assert f"broker has ended; starts again in {pause} s" in caplog.text
        kept.keep(now + pause - 0.01)
        assert server.launches == number
        now += pause + 0.001
        kept.keep(now)
        assert server.launches == number + 1
    assert ("broker cannot be started: no room" in caplog.text) == (error is not None)
    server.running = True
    kept.keep(now)
    server.running = False
    kept.keep(now + 60.0)
    assert kept.next_start == pytest.approx(now + 60.2)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def living_workers() -> dict[str, psutil.Process]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {line[-1]: child for child in children if (line := child.cmdline())}


def keep(home: Path, roles: list[str], watch: Callable[[], None]) -> bool:
    """Keep workers of these roles running while a thread watches; it has to press Ctrl-C."""
    specs = [WorkerSpec(role, role, worker(role, role), {"HSSTAR_HOME": str(home)}) for role in roles]

    def watch_from_the_start() -> None:
        try:
            wait_for(lambda: all((home / f"{role}.environment").exists() for role in roles))
            watch()
        except BaseException:
            os.kill(os.getpid(), signal.SIGTERM)  # the two together end it at once
            press_ctrl_c()
            raise

    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(watch_from_the_start)
        clean = keep_running(specs, home / "logs", home)
    watching.result()
    return clean


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder; afterwards no process whose environment names it may be left."""
    yield tmp_path
    everything = psutil.process_iter(["environ"])
    left = [each for each in everything if (each.info["environ"] or {}).get("HSSTAR_HOME") == str(tmp_path)]
    for process in left:
        process.kill()
    assert not left


def test_ctrl_c_waits_for_the_jobs_in_hand(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0]

    def a_minute_later() -> float:
        times.append(times[-1] + 60.0)
        return times[-1]

    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=a_minute_later))
    monkeypatch.setattr(supervisor, "ROUND_SECONDS", 0.01)

    def watch() -> None:
        press_ctrl_c()
        wait_for(lambda: "sample" not in living_workers())
        begun = len(times)
        wait_for(lambda: len(times) > begun + 50)
        living_workers()["stubborn"].kill()  # as if its job had come to an end

    assert keep(home, ["stubborn", "sample"], watch)


def test_a_second_ctrl_c_ends_all_at_once(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    begun = []

    def watch() -> None:
        press_ctrl_c()
        wait_for(lambda: "parent" not in living_workers())
        begun.append(time.monotonic())
        press_ctrl_c()

    assert not keep(home, ["stubborn", "parent", "stubborn too"], watch)
    assert time.monotonic() - begun[0] < 30.0  # without the second one it waits without end
    assert "2 workers had to be killed" in caplog.text


def test_a_worker_that_had_ended_before_the_second_ctrl_c_was_not_killed(
    home: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = processes.send

    def send_and_press_again(worker: ProcessIdentity, number: signal.Signals) -> None:
        send(worker, number)
        if number is signal.SIGTERM:
            wait_for(lambda: "sample" not in living_workers())
            press_ctrl_c()

    monkeypatch.setattr(processes, "send", send_and_press_again)
    assert not keep(home, ["sample", "stubborn"], press_ctrl_c)
    assert "1 workers had to be killed" in caplog.text


LISTED = """GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 1g.18gb     Device  0: (UUID: MIG-cccc)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)"""


def test_gpus_are_asked_of_the_driver_and_read_from_its_files_where_its_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hsstar.local.gpus._DRIVER", tmp_path)
    program.write_text(f"#!/bin/sh\necho '{LISTED}'\n")
    program.chmod(0o755)
    assert find_gpus({}) == ("0", "1")
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ("1",)
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert find_gpus({}) == ()
    program.unlink()
    for bus, identifier in (("0000:a0:00.0", "GPU-bbbb"), ("0000:1b:00.0", "GPU-aaaa")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t NVIDIA H200\nGPU UUID: \t {identifier}\n")
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bbbb,GPU-aaaa"}) == ("1", "0")
