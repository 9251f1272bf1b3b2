"""`hsstar worker` with several processes: GPUs shared out, deaths repaired, Ctrl-C once and twice."""

import os
import signal
from collections.abc import Iterator, Sequence

import psutil
import pytest

from tests.acceptance.conftest import NO_WORKERS, SECONDS, Home, temporary_home

WORKERS = "select split_part(name, '@', 1) as name, state, process from workers order by name"
HELD = "select id from jobs where state = 'running' order by id"


@pytest.fixture(scope="module")
def machine() -> Iterator[Home]:
    """Servers without workers, on a machine that shows three GPUs, of which two may be used."""
    with temporary_home() as home:
        program = home.folder / "nvidia-smi"
        lines = [f"echo 'GPU {gpu}: NVIDIA H200 (UUID: GPU-{gpu}{gpu})'" for gpu in range(3)]
        program.write_text("\n".join(["#!/bin/sh", *lines]))
        program.chmod(0o755)
        path = f"{home.folder}{os.pathsep}{os.environ['PATH']}"
        home.environment |= {"PATH": path, "CUDA_VISIBLE_DEVICES": "1,2"}
        home.ok("up", *NO_WORKERS)
        yield home


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a dead one whose new parent has not looked yet does not."""
    _, left = psutil.wait_procs(processes, timeout=0)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.heavy
def test_every_process_has_its_gpu_its_log_and_a_successor(machine: Home) -> None:
    process = machine.start("worker", "--role", "sample,score=1,verify")
    try:
        rows = machine.wait_for(WORKERS, lambda rows: [row["state"] for row in rows] == ["idle"] * 3)
        pids = {row["name"]: row["process"] for row in rows}
        gpus = {name: psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"] for name, pid in pids.items()}
        assert gpus == {"sample-gpu1": "1", "score-gpu2": "2", "verify-cpu1": ""}
        logs = {log.name.partition("@")[0] for log in (machine.folder / "home" / "logs").glob("*pu*.log")}
        assert logs == set(pids)
        killed = pids.pop("verify-cpu1")
        os.kill(killed, signal.SIGKILL)
        again = machine.wait_for(
            WORKERS, lambda rows: rows[2]["state"] == "idle" and rows[2]["process"] != killed
        )
        assert {row["name"]: row["process"] for row in again[:2]} == pids
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        assert not alive(family)
    finally:
        process.kill()
    assert [row["state"] for row in machine.query(WORKERS)] == ["stopped"] * 3


@pytest.mark.heavy
def test_a_second_ctrl_c_hands_the_jobs_back_at_once(machine: Home) -> None:
    machine.import_demo_problems(100)
    machine.ok("runs", "create", "--recipe", str(machine.write_recipe("cut", problems=100, n="64")))
    machine.ok("iterate", "cut")
    process = machine.start("worker", "--role", "sample=2")
    machine.wait_for(HELD)
    family = psutil.Process(process.pid).children()
    for child in family:
        child.suspend()  # so that no job comes to an end
    held = machine.query(HELD)
    process.send_signal(signal.SIGINT)
    said = iter(process.stderr.readline, "") if process.stderr else ()
    assert any("a second signal kills them" in line for line in said)  # and waits for the jobs
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not alive(family)
    assert machine.query(HELD) == []
    back = machine.query("select id, state from jobs order by id")
    assert {(job["id"], "queued") for job in held} <= {(job["id"], job["state"]) for job in back}
    samplers = machine.query("select state from workers where name like 'sample-%'")
    assert [row["state"] for row in samplers] == ["stopped"] * 2
