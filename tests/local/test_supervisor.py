"""When a supervisor starts a worker or a server again, by a clock that the test has in its hands."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import LocalStackError
from hsstar.domain.lifecycle import WorkerExit
from hsstar.local.state import WorkerSpec
from hsstar.local.supervisor import SupervisedServer, SupervisedWorker, keep_running
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def all_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")


def spec(program: str, name: str = "w") -> WorkerSpec:
    return WorkerSpec(name, "verify", ("sh", "-c", program), {"TEST_OWN": "its own"})


def supervised(folder: Path, program: str) -> SupervisedWorker:
    return SupervisedWorker(spec(program), folder / "logs" / "w.log", folder)


def wait_for_end(worker: SupervisedWorker) -> None:
    """Waits until its process has ended, and leaves the rest to it."""
    process = worker._process
    assert process is not None
    wait_for(lambda: os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def lives(worker: SupervisedWorker, begin: float, lifetimes: Sequence[float]) -> list[float]:
    """Starts it for each of these lifetimes; the pauses after them."""
    now, pauses = begin, []
    for number, lifetime in enumerate(lifetimes):
        assert worker.keep(now)
        assert worker.starts == number + 1
        wait_for_end(worker)
        now += lifetime
        assert worker.keep(now)
        assert worker.state().process is None
        assert worker.state().restarts == number
        pauses.append(round(worker.next_start - now, 3))
        assert not worker.keep(worker.next_start - 0.01)
        now = worker.next_start
    return pauses


def test_a_worker_that_dies_is_started_again_after_pauses_that_grow(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = supervised(tmp_path, "echo $TEST_OWN; exit 3")
    assert lives(worker, 100.0, [1, 1, 59, 60, 1]) == [0.2, 0.4, 0.8, 0.2, 0.4]
    assert worker.log.read_text() == "its own\n" * 5
    assert "w ended with code 3; starts again in 0.8 s" in caplog.text
    assert (worker.drained, worker.incompatible) == (False, False)


def test_a_worker_whose_schema_does_not_fit_is_tried_twice_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = supervised(tmp_path, f"exit {WorkerExit.WRONG_SCHEMA}")
    assert lives(worker, 0.0, [1, 1, 99]) == [30.0, 30.0, 30.0]
    assert "does not fit the schema of the database (see its log); starts again in 30.0 s" in caplog.text


def test_a_worker_that_was_asked_to_stop_is_not_started_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = supervised(tmp_path, f"exit {WorkerExit.DRAINED}")
    worker.keep(0.0)
    wait_for_end(worker)
    assert worker.keep(1.0)
    assert worker.drained
    assert not any(worker.keep(float(now)) for now in range(2, 1000, 50))
    assert worker.starts == 1
    assert "w was asked to stop and has ended; it is not started again" in caplog.text


def test_the_signal_that_ended_a_worker_is_named(tmp_path: Path) -> None:
    worker = supervised(tmp_path, "sleep 600")
    worker.keep(0.0)
    assert worker.identity is not None
    assert worker.reap() is None
    os.kill(worker.identity.pid, signal.SIGKILL)
    wait_for_end(worker)
    assert worker.reap() == "ended by SIGKILL"
    assert worker.reap() is None


def test_a_worker_whose_program_is_missing_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = SupervisedWorker(WorkerSpec("w", "verify", ("/nowhere",)), tmp_path / "w.log", tmp_path)
    assert worker.keep(5.0)
    assert worker.identity is None
    assert "w cannot be started" in caplog.text
    assert not worker.keep(5.1)
    assert worker.keep(5.2)
    assert worker.state().restarts == 1


def test_a_supervisor_ends_by_itself_with_the_last_worker_that_was_asked_to_stop(tmp_path: Path) -> None:
    program = "test -e again && exit 80; touch again; exit 3"
    before = signal.getsignal(signal.SIGTERM)
    assert keep_running([spec("exit 80", "a"), spec(program, "b")], tmp_path / "logs", tmp_path)
    assert (tmp_path / "again").exists()
    assert signal.getsignal(signal.SIGTERM) is before


class Server:
    name = "broker"

    def __init__(self) -> None:
        self.running, self.launches = True, 0
        self.error: Exception | None = None

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
