"""Workers under a supervisor in the foreground: restarts, Ctrl-C once and twice, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from hsstar.local.gpus import find_gpus
from tests.waiting import wait_for


class Fleet:
    def __init__(self, home: Path, *roles: str, **environment: str):
        self.home = home
        self.names = [f"{role}-gpu{gpu}" for gpu, role in enumerate(roles)]
        self.log = home / "fleet.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.local.fleet_program", str(home), *roles],
            stdout=self.log.open("wb"),
            env=os.environ | environment,
            # a shell's background jobs ignore Ctrl-C, and their children inherit that
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_for(lambda: all((home / f"{name}.environment").exists() for name in self.names))

    def workers(self) -> dict[str, psutil.Process]:
        children = psutil.Process(self.process.pid).children()
        return {child.cmdline()[-1]: child for child in children if child.status() != psutil.STATUS_ZOMBIE}

    def end(self) -> tuple[int, str]:
        return self.process.wait(60), self.log.read_text()

    def wait_for_rounds(self, count: int) -> None:
        """Waits for further rounds of a supervisor in a hurry."""
        before = self.log.read_text().count("a round")
        wait_for(lambda: self.log.read_text().count("a round") >= before + count)


def left_of(folder: Path) -> list[psutil.Process]:
    """The processes whose environment names this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("HSSTAR_HOME") == str(folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder; afterwards no process that was started for it may be left."""
    yield tmp_path
    left = left_of(tmp_path)
    for process in left:
        process.kill()
    assert not left


def test_each_worker_has_its_gpu_and_its_log(home: Path) -> None:
    fleet = Fleet(home, "sample", "score")
    seen = {name: process.environ()["CUDA_VISIBLE_DEVICES"] for name, process in fleet.workers().items()}
    assert seen == {"sample-gpu0": "0", "score-gpu1": "1"}
    assert {log.name: log.read_text() for log in (home / "logs").iterdir()} == {
        "sample-gpu0.log": "sample-gpu0 has started\n",
        "score-gpu1.log": "score-gpu1 has started\n",
    }
    fleet.process.terminate()
    assert fleet.end()[0] == 0


def test_ctrl_c_waits_for_the_jobs_in_hand(home: Path) -> None:
    fleet = Fleet(home, "stubborn", "sample", TEST_HURRY="1")
    workers = fleet.workers()
    fleet.process.send_signal(signal.SIGINT)
    wait_for(lambda: not workers["sample-gpu1"].is_running())
    fleet.wait_for_rounds(20)  # minutes on its clock
    assert workers["stubborn-gpu0"].is_running()
    assert fleet.process.poll() is None
    workers["stubborn-gpu0"].kill()  # as if its job had come to an end
    assert fleet.end()[0] == 0


def test_a_second_ctrl_c_ends_all_at_once(home: Path) -> None:
    fleet = Fleet(home, "stubborn", "parent", "stubborn")
    fleet.process.send_signal(signal.SIGINT)
    wait_for(lambda: "parent-gpu1" not in fleet.workers())
    begun = time.monotonic()
    fleet.process.send_signal(signal.SIGINT)
    code, said = fleet.end()
    assert time.monotonic() - begun < 3.0
    assert code == 130
    assert "2 workers had to be killed" in said


def test_gpus_are_asked_of_the_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\n"
        "echo 'GPU 0: NVIDIA H200 (UUID: GPU-aaaa)'\n"
        "echo '  MIG 1g.18gb     Device  0: (UUID: MIG-cccc)'\n"
        "echo 'GPU 1: NVIDIA H200 (UUID: GPU-bbbb)'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr("hsstar.local.gpus._DRIVER", tmp_path / "nothing")
    assert find_gpus({}) == ("0", "1")
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "1"}) == ("1",)
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'; exit 9\n")
    assert find_gpus({}) == ()


def test_gpus_are_read_from_the_driver_where_its_program_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for bus, identifier in (("0000:a0:00.0", "GPU-bbbb"), ("0000:1b:00.0", "GPU-aaaa")):
        (tmp_path / bus).mkdir()
        (tmp_path / bus / "information").write_text(f"Model: \t NVIDIA H200\nGPU UUID: \t {identifier}\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("hsstar.local.gpus._DRIVER", tmp_path)
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "GPU-bbbb,GPU-aaaa"}) == ("1", "0")
