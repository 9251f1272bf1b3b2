"""Workers under a supervisor in the foreground: Ctrl-C once and twice, and nothing left behind; GPUs."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from hsstar.local import supervisor
from hsstar.local.gpus import find_gpus
from hsstar.local.state import WorkerSpec
from hsstar.local.supervisor import keep_running
from tests.local.conftest import worker
from tests.waiting import wait_for


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def living_workers() -> dict[str, psutil.Process]:
    children = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return {line[-1]: child for child in children if (line := child.cmdline())}


def keep(home: Path, roles: list[str], watch: Callable[[], None]) -> bool:
    """Keep workers of these roles running while a thread watches; it has to press Ctrl-C."""
    environment = {"HSSTAR_HOME": str(home)}
    specs = [WorkerSpec(role, role, worker(role, role), environment) for role in roles]

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


def left_of(folder: Path) -> list[psutil.Process]:
    """The processes whose environment names this folder."""
    everything = psutil.process_iter(["environ"])
    return [each for each in everything if (each.info["environ"] or {}).get("HSSTAR_HOME") == str(folder)]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A folder; afterwards no process that was started for it may be left."""
    yield tmp_path
    left = left_of(tmp_path)
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

    caplog.set_level("INFO")
    assert not keep(home, ["stubborn", "parent", "stubborn too"], watch)
    assert time.monotonic() - begun[0] < 3.0
    assert "2 workers had to be killed" in caplog.text


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
