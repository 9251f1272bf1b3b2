"""`hsstar worker` with several processes: GPUs shared out, deaths repaired, Ctrl-C once and twice."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import psutil
import pytest

from tests.acceptance.conftest import SECONDS, Home, temporary_home
from tests.acceptance.invariants import check_finished_run

_WORKERS = "select name as worker, state, process from workers where name like '%pu%' order by name"


def with_gpus(home: Home) -> Home:
    """The home on a machine that shows three GPUs, of which two may be used."""
    folder = home.folder / "driver"
    folder.mkdir()
    program = folder / "nvidia-smi"
    lines = [f"echo 'GPU {gpu}: NVIDIA H200 (UUID: GPU-{gpu}{gpu})'" for gpu in range(3)]
    program.write_text("\n".join(["#!/bin/sh", *lines]))
    program.chmod(0o755)
    home.environment |= {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "CUDA_VISIBLE_DEVICES": "1,2",
    }
    return home


@pytest.fixture(scope="module")
def servers() -> Iterator[Home]:
    """A home whose servers are up without workers."""
    with temporary_home() as home:
        with_gpus(home).ok("up", "--workers", "sample=0,score=0,verify=0,train=0")
        yield home


@pytest.fixture
def machine(servers: Home) -> Home:
    """Servers that know no worker."""
    servers.query("delete from workers returning name")
    return servers


@contextmanager
def fleet(home: Home, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`hsstar worker` with these arguments; it must have ended, and its workers with it, with the block."""
    process = home.start("worker", *arguments)
    try:
        yield process
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, errors
        assert not alive(family)
    finally:
        process.kill()


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a dead one whose new parent has not looked yet does not."""
    _, left = psutil.wait_procs(processes, timeout=0)
    return [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def pids(home: Home, count: int, state: str = "idle") -> dict[str, int]:
    """The processes of the workers by name without host, once there are so many in this state."""
    rows = home.wait_for(
        _WORKERS, lambda rows: len(rows) == count and all(row["state"] == state for row in rows)
    )
    return {row["worker"].partition("@")[0]: row["process"] for row in rows}


def test_every_process_has_its_gpu_its_log_and_a_successor(machine: Home) -> None:
    with fleet(machine, "--role", "sample,score=1,verify") as process:
        first = pids(machine, 3)
        assert {
            name: psutil.Process(pid).environ()["CUDA_VISIBLE_DEVICES"] for name, pid in first.items()
        } == {
            "sample-gpu1": "1",
            "score-gpu2": "2",
            "verify-cpu1": "",
        }
        logs = {log.name.partition("@")[0] for log in (machine.folder / "home" / "logs").glob("*pu*.log")}
        assert logs >= set(first)
        assert "sample-gpu1@" in machine.refused("worker", "--role", "sample=1,verify=1")
        os.kill(first["verify-cpu1"], signal.SIGKILL)
        machine.wait_for(
            _WORKERS, lambda rows: rows[2]["state"] == "idle" and rows[2]["process"] != first["verify-cpu1"]
        )
        assert psutil.pid_exists(first["sample-gpu1"])
        assert process.poll() is None
    pids(machine, 3, "stopped")


def test_a_second_ctrl_c_hands_the_jobs_back_at_once(machine: Home) -> None:
    machine.import_demo_problems(200)
    machine.iterate("cut", machine.write_recipe("cut", problems=100, n="64"))
    process = machine.start("worker", "--role", "sample=2")
    machine.wait_for(
        "select count(*) as jobs from jobs where state = 'running'", lambda rows: rows[0]["jobs"] > 0
    )
    family = psutil.Process(process.pid).children()
    for child in family:
        child.suspend()  # so that no job comes to an end
    held = machine.query("select id from jobs where state = 'running' order by id")
    process.send_signal(signal.SIGINT)
    said = iter(process.stderr.readline, "") if process.stderr else ()
    assert any("a second signal kills them" in line for line in said)  # and waits for the jobs
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert not alive(family)
    assert machine.query("select count(*) as jobs from jobs where state = 'running'") == [{"jobs": 0}]
    ids = ",".join(str(job["id"]) for job in held)
    assert machine.query(f"select distinct state from jobs where id in ({ids or 0})") == [
        {"state": "queued"} for _ in held[:1]
    ]
    pids(machine, 2, "stopped")


def test_one_role_on_one_gpu_is_one_process(machine: Home) -> None:
    with fleet(machine, "--role", "verify", "--gpus", "2", "--name", "one-gpu") as process:
        assert pids(machine, 1) == {"one-gpu": process.pid}


@pytest.mark.heavy
def test_a_gpu_of_all_roles_finishes_two_runs_with_one_engine_at_a_time(home: Home) -> None:
    assert "workers   verify-1, all-1" in with_gpus(home).ok("up", "--workers", "verify=1,all=1")
    home.import_demo_problems(60)
    for run in ("first", "second"):
        home.iterate(run, home.write_recipe(run, 12, 8))
    for run in ("first", "second"):
        home.wait_until_done(run)
        check_finished_run(home, run, json.loads(home.ok("runs", "show", run)))
    log = (home.folder / "home" / "logs" / "all-1.log").read_text()
    kinds = re.findall(r"job \d+ \((sample|score|train)\)", log)
    changes = sum(before != after for before, after in pairwise(kinds))
    assert {*kinds} == {"sample", "score", "train"}
    assert changes <= 16, kinds
