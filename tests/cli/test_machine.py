"""Commands about this machine: worker processes, the demo's start, and `hsstar doctor`."""

import csv
import io
import os
import sys
from pathlib import Path
from threading import Thread
from typing import Any, NoReturn

import pytest

from hsstar.cli import demo
from hsstar.cli.stack import _thread_counts
from hsstar.commands.workers import release_workers
from hsstar.demo import RECIPE
from hsstar.domain.errors import DatabaseError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines import packages
from hsstar.insights import watch
from hsstar.insights.progress import run_progress
from hsstar.insights.runs import find_run
from hsstar.local.holders import Holder
from hsstar.recipe.recipe import load_recipe
from hsstar.settings import Settings
from tests.checkout import check_is_this_checkout
from tests.cli.conftest import WATCH, CommandLine, enqueue, interrupt, let_time_pass
from tests.store.factory import add_worker, claim, execute

SECRETS = ("HSSTAR_DATABASE_URL", "HSSTAR_BROKER_URL")


class Ended(Exception):  # noqa: N818
    """The process has ended with a code, or has become another program."""


def end(*how: object) -> NoReturn:
    raise Ended(*how)


@pytest.fixture
def gpus(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A machine that shows two GPUs and has six cores, where a process that would become a worker ends."""
    folder = cli.folder / "driver"
    folder.mkdir()
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA (UUID: GPU-a)'\necho 'GPU 1: NVIDIA (UUID: GPU-b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(os, "execve", end)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return cli


@pytest.mark.parametrize(
    ("options", "role", "gpu", "threads"),
    [
        (("--role", "score"), "score", None, None),
        (("--role", "score=1", "--gpus", "1"), "score", "1", "6"),
        (("--role", "verify=1"), "verify", "", "1"),
    ],
)
def test_one_worker_takes_the_place_of_the_command_and_its_secrets_are_on_no_command_line(
    gpus: CommandLine, options: tuple[str, ...], role: str, gpu: str | None, threads: str | None
) -> None:
    with pytest.raises(Ended) as ended:
        gpus("worker", *options, "--name", "mine")
    program, arguments, environment = ended.value.args
    assert program == sys.executable
    assert arguments[-4:] == ["--role", role, "--name", "mine"]
    assert "hsstar.workers" in arguments
    for variable in SECRETS:
        assert environment[variable] == os.environ[variable]
        assert environment[variable] not in " ".join(arguments)
        assert environment[f"{variable}_FILE"] == ""
    assert environment.get("CUDA_VISIBLE_DEVICES") == gpu
    assert environment.get("OMP_NUM_THREADS") == threads


def test_what_cannot_be_is_refused_before_anything_starts(gpus: CommandLine) -> None:
    host = os.uname().nodename
    with gpus.database.begin() as connection:
        for name in ("sample-gpu0", "mine-sample-gpu1"):
            add_worker(
                connection, f"{name}@{host}", host=host, process=os.getpid(), space=Holder.now().process_space
            )
    for options, message in {
        "sample=6,score=2 --gpus all": "sample=6,score=2 would take 8 GPUs, and there are 2: 0, 1",
        "all --gpus 7": "there is no GPU '7' here; there are 2: 0, 1",
        "sample=2": f"'sample-gpu0@{host}' is at work",
        "sample=2 --name mine": f"'mine-sample-gpu1@{host}' is at work",
    }.items():
        assert message in gpus.refused("worker", "--role", *options.split())
    assert not list(gpus.folder.glob("**/*.log"))


def test_what_a_supervisor_ends_is_released_and_stopped(cli: CommandLine) -> None:
    enqueue(cli)
    worker = cli.worker()
    worker.conductor.sweep()
    (job,) = worker.queued()
    with cli.database.begin() as connection:
        add_worker(connection, "w@x", host="x")
        claim(connection, job, "w@x")
    release_workers(cli.database, ["w@x"], 3)
    assert cli.rows("SELECT jobs.state, workers.state FROM jobs, workers") == [("queued", "stopped")]


def test_a_killed_worker_whose_last_transaction_is_open_gives_its_jobs_back(cli: CommandLine) -> None:
    enqueue(cli)
    worker = cli.worker()
    worker.conductor.sweep()
    (job_id,) = worker.queued()
    with cli.database.begin() as connection:
        add_worker(connection, "w@x", host="x")
        claim(connection, job_id, "w@x")
    with cli.database.begin() as dying:
        execute(dying, "SELECT id FROM jobs WHERE id = :id FOR UPDATE", id=job_id)
        release = Thread(target=release_workers, args=(cli.database, ["w@x"], 3))
        release.start()
        release.join(0.3)
        assert release.is_alive()
    release.join(10)
    assert cli.rows(f"SELECT state FROM jobs WHERE id = {job_id}") == [("queued",)]


def test_workers_alone_start_where_the_environment_names_the_servers(cli: CommandLine) -> None:
    up = ("up", "--workers", "sample=0,score=0,verify=0,train=0")
    said = cli.ok(*up).splitlines()
    home = cli.folder / "home"
    try:
        assert said == ["workers   none", f"logs      {home / 'logs'}", "stop with hsstar down"]
        assert "hsstar is already up" in cli.refused(*up)
        assert "to change that, run `hsstar down` first" in cli.refused("up", "--workers", "sample=2")
    finally:
        assert cli.ok("down") == f"hsstar is down; its data stay in {home}\n"
    assert "hsstar is not up" in cli.refused("down")


def test_threads_are_shared_unless_the_environment_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    passive = {"OMP_WAIT_POLICY": "PASSIVE"}
    threads = {"sample": "3", "score": "3", "verify": "1", "train": "6", "all": "6"}
    assert _thread_counts() == {role: passive | {"OMP_NUM_THREADS": n} for role, n in threads.items()}
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert _thread_counts() == dict.fromkeys(threads, passive)


def test_the_demo_starts_a_run_with_its_options_and_finds_it_again(cli: CommandLine) -> None:
    assert demo._unfinished_run(cli.database) is None
    assert demo._start_run(cli.database, cli.folder, 7, "transformers", 1) == "demo"
    assert demo._unfinished_run(cli.database) == "demo"
    assert find_run(cli.database, "demo").recipe == load_recipe(RECIPE, {"seed": 7})
    sizes = {row["dataset"]: row["problems"] for row in cli.json("problems", "list")}
    assert sizes == {"demo-train": 3 * 250, "demo-heldout": 400}  # two slices are spare
    assert demo._start_run(cli.database, cli.folder, 7, "transformers", 2) == "demo-2"
    assert cli.rows("SELECT number FROM rounds WHERE kind = 'iteration' ORDER BY id") == [(0,), (0,), (1,)]
    home = cli.folder / "home"
    for kept_up in (True, False):
        demo._farewell(Settings.from_environment(), "demo", kept_up)
        said = cli.said().splitlines()
        assert said[-1] == f"  HSSTAR_HOME={home} hsstar down"
        assert f"  HSSTAR_HOME={home} hsstar status demo" in said
        assert (f"  HSSTAR_HOME={home} hsstar up" in said) == (not kept_up)


def test_the_doctor_ends_with_1_where_something_fails(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr("hsstar.doctor.installation._IMPORT_SECONDS", 0.2)  # engines are looked at elsewhere
    with pytest.raises(Ended) as ended:
        cli("doctor", "--format", "csv")
    found = {name: (level, text) for level, name, text in csv.reader(io.StringIO(cli.said()))}
    assert [found[name][0] for name in ("database", "schema", "disk")] == ["ok"] * 3
    assert found["broker"][0] == "FAIL" and "127.0.0.1:9" in found["broker"][1]  # nobody listens there
    assert ended.value.args == (1,)


def test_another_installation_is_not_taken_for_this_checkout(tmp_path: Path) -> None:
    for package in ("hsstar", "hsstar/cli", "hsstar/workers"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    with pytest.raises(AssertionError, match=f"runs {tmp_path}/hsstar/__init__.py"):
        check_is_this_checkout({"PYTHONPATH": str(tmp_path)})


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (("up",), "sample"),
        (("up", "--workers", "all=1"), "all"),
        (("worker", "--role", "train"), "train"),
        (("demo",), "sample"),
    ],
)
def test_what_a_role_needs_is_checked_before_anything_starts(
    alone: CommandLine, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], role: str
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda package: None if package == "torch" else package)
    message = alone.refused(*command)
    assert message == f"a worker of the role {role} needs torch: pip install 'hsstar[train]'"
    assert not (alone.folder / "home" / "servers").exists()
    monkeypatch.setattr(packages, "find_spec", lambda package: package)
    for each in (*JobKind, "all"):
        packages.check_role(each)


def test_a_watch_waits_for_a_database_that_is_away(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(cli)
    looks = iter([DatabaseError("cannot reach it"), DatabaseError("cannot reach it"), None])
    whole = run_progress

    def look(*arguments: Any) -> Any:
        error = next(looks, None)
        if error is not None:
            raise error
        return whole(*arguments)

    monkeypatch.setattr(watch, "run_progress", look)
    let_time_pass(monkeypatch, "hsstar.insights.progress", lambda: None, lambda: None)
    let_time_pass(monkeypatch, WATCH, interrupt)
    called = cli("status", "r", "--watch")
    assert called.code == 130
    assert called.out.startswith(
        "cannot reach it; waiting for it\nthe database is back\niteration 0  waiting"
    )
