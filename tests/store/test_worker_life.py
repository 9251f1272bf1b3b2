"""What a worker takes over, reports and obeys, from its start to its end."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from hsstar import __version__
from hsstar.cli.main import hsstar
from hsstar.domain.errors import ConflictError, DrainedError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.store.database import SCHEMA_REVISION, Database
from hsstar.store.queue import workers
from hsstar.workers import __main__ as program
from hsstar.workers.app import make_app
from hsstar.workers.background import guarded
from hsstar.workers.context import note_taker
from hsstar.workers.runtime import Worker
from tests.store.drawing import (
    FragileSampler,
    add_sampling,
    make_worker,
    sampling_jobs,
    unread_checkpoint,
    worker_row,
)
from tests.store.factory import add_iteration, add_job, add_problems, add_run, claim, state_of
from tests.waiting import wait_for

ALL_KINDS = tuple(JobKind)


@pytest.fixture
def job_ids(database: Database, tmp_path: Path) -> list[int]:
    """Four sampling jobs of 16 samples."""
    return add_sampling(database, "run", unread_checkpoint(tmp_path / "policy"), 16, 4)[1]


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    """The requests to end that this process sends itself."""
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGTERM, before)


@contextmanager
def stalled(worker: Worker, engine: FragileSampler, job_id: int | None) -> Iterator[None]:
    """The worker has begun a job, which ends after the block."""
    working = threading.Thread(target=worker.run_job, args=(job_id,))
    working.start()
    try:
        wait_for(lambda: engine.asked)
        yield
    finally:
        engine.released.set()
        working.join()


def lease_seconds(database: Database, since: str) -> float:
    query = f"SELECT extract(epoch FROM lease_expires_at - {since}) FROM jobs WHERE state = 'running'"
    with database.begin() as connection:
        return float(connection.execute(text(query)).scalar_one())


def set_schema(database: Database, revision: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


# --- the start ----------------------------------------------------------------------------------------


def test_a_restarted_worker_takes_back_what_its_name_held(database: Database, job_ids: list[int]) -> None:
    with database.begin() as connection:
        for job_id, holder in zip(job_ids, ("worker", "another"), strict=False):
            claim(connection, job_id, holder, lease_seconds=3600)
    worker = make_worker(database, max_attempts=2)
    worker.start()
    worker.stop()
    states = [(state, attempts) for state, attempts, _ in sampling_jobs(database)]
    assert states == [("queued", 1), ("running", 1), ("queued", 0), ("queued", 0)]


def test_the_attempts_of_the_settings_count_for_what_a_dead_worker_held(database: Database) -> None:
    with database.begin() as connection:
        problem_ids = add_problems(connection, 1)
        round_id = add_iteration(connection, add_run(connection), problem_ids).id
        of_name, expired = (add_job(connection, round_id, items={problem_ids[0]: [slot]}) for slot in (0, 1))
        claim(connection, of_name, "worker", lease_seconds=3600)
        claim(connection, expired, "dead", lease_seconds=-1)
    worker = make_worker(database, max_attempts=1)
    worker.start()
    worker.conductor.sweep()
    worker.stop()
    with database.begin() as connection:
        assert [state_of(connection, job_id) for job_id in (of_name, expired)] == ["failed", "failed"]


def test_the_jobs_of_a_round_have_the_size_of_the_settings(database: Database) -> None:
    with database.begin() as connection:
        add_iteration(connection, add_run(connection), add_problems(connection, 4))  # 4 problems, 3 samples
    make_worker(database, job_samples=6).conductor.sweep()
    assert [size for _, _, size in sampling_jobs(database)] == [6, 6]


@pytest.mark.parametrize(
    ("roles", "role", "gpu"),
    [
        ([JobKind.VERIFY], "verify", None),  # needs no GPU
        ([JobKind.SAMPLE], "sample", "0,1"),
        (ALL_KINDS, "sample,verify,score,train", "0,1"),
    ],
)
def test_what_a_worker_is_stands_in_its_row(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    roles: Sequence[JobKind],
    role: str,
    gpu: str | None,
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text('#!/bin/sh\nfor n in 0 1; do echo "GPU $n: NVIDIA H200 (UUID: GPU-$n)"; done\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    worker = make_worker(database, roles=roles)
    worker.start()
    row = worker_row(database)
    worker.stop()
    assert (row["host"], row["process"]) == (socket.gethostname(), os.getpid())
    assert (row["role"], row["gpu"], row["version"]) == (role, gpu, __version__)
    assert (row["state"], row["jobs_done"], row["tokens_done"]) == ("idle", 0, 0)
    assert worker_row(database)["state"] == "stopped"


def test_a_name_belongs_to_one_living_process(database: Database) -> None:
    """In a container that is started again the next worker has host, name and pid of the last."""
    with database.begin() as connection:
        for name, process in (("worker", os.getpid()), ("other", os.getppid()), ("dead", 1 << 30)):
            workers.register(connection, name, socket.gethostname(), process, "sample")
        workers.register(connection, "elsewhere", "another host", os.getpid(), "sample")
    for name in ("worker", "dead"):
        worker = make_worker(database, name=name)
        worker.start()
        worker.stop()
    for name in ("other", "elsewhere"):
        with pytest.raises(ConflictError, match=f"a worker named '{name}' is at work"):
            make_worker(database, name=name).start()


def test_a_worker_that_died_while_it_was_to_stop_is_replaced_by_the_next_but_one(database: Database) -> None:
    with database.begin() as connection:
        workers.register(connection, "worker", socket.gethostname(), 1 << 30, "sample")
        workers.request_stop(connection, ["worker"], [], everyone=False)
    with pytest.raises(DrainedError, match="was asked to stop; it can be started again from now on"):
        make_worker(database).start()
    assert worker_row(database)["state"] == "stopped"
    worker = make_worker(database)
    worker.start()
    assert worker_row(database)["stop_requested_at"] is None
    worker.stop()


def test_a_worker_that_stops_releases_its_jobs_which_counts_as_no_attempt_and_closes_its_engines(
    database: Database, job_ids: list[int]
) -> None:
    engine = FragileSampler()
    worker = make_worker(database, lambda folder, recipe: engine)
    worker.start()
    for _ in range(2):
        worker._claim(None)
    worker.run_job(job_ids[2])
    assert not engine.closed
    worker.stop()
    assert sampling_jobs(database) == [("queued", 0, 16)] * 2 + [("done", 1, 16)] * 2
    assert worker_row(database)["state"] == "stopped"
    assert (worker.leaving, engine.closed) == (True, True)


# --- leases and heartbeats ----------------------------------------------------------------------------


@pytest.mark.parametrize("one_at_a_time", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_job_is_leased_for_the_seconds_of_the_settings_and_again_with_each_beat(
    database: Database, job_ids: list[int], one_at_a_time: bool, named: bool
) -> None:
    engine = FragileSampler(stalls_after=0)
    worker = make_worker(
        database,
        lambda folder, recipe: engine,
        roles=ALL_KINDS if one_at_a_time else [JobKind.SAMPLE],
        one_at_a_time=one_at_a_time,
        lease_seconds=17.0,
        jobs_in_flight=1,
    )
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
    with stalled(worker, engine, job_ids[0] if named else None):
        assert lease_seconds(database, "started_at") == 17
        with database.begin() as connection:
            connection.execute(text("UPDATE jobs SET lease_expires_at = now() WHERE state = 'running'"))
            connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '1 hour'"))
        worker.background.report()
        assert 12 < lease_seconds(database, "now()") <= 17
        row = worker_row(database)
        assert (row["state"], row["jobs_done"]) == ("busy", 0)
        worker.leave()
    worker.background.report()
    row = worker_row(database)
    assert (row["state"], row["jobs_done"]) == ("idle", 1)
    with database.begin() as connection:
        age = connection.execute(text("SELECT extract(epoch FROM now() - last_heartbeat) FROM workers"))
        assert age.scalar_one() < 10


@pytest.mark.parametrize(("lease", "pause"), [(60.0, 2.0), (8.0, 2.0), (2.0, 0.5)])
def test_a_lease_lasts_for_four_beats_at_least(database: Database, lease: float, pause: float) -> None:
    assert make_worker(database, lease_seconds=lease).background._beat_pause() == pause


def test_the_next_sweep_comes_when_the_first_lease_ends(database: Database, job_ids: list[int]) -> None:
    background = make_worker(database).background
    assert background._sweep_pause() == 2.0
    with database.begin() as connection:
        claim(connection, job_ids[0], "dead", lease_seconds=1.5)
    background._sweep()
    assert 0.1 <= background._sweep_pause() <= 1.5
    with database.begin() as connection:
        soon = "UPDATE jobs SET lease_expires_at = now() + interval '20 ms' WHERE state = 'running'"
        connection.execute(text(soon))
    background._sweep()
    assert background._sweep_pause() == 0.1

    def taken_back() -> bool:
        background._sweep()
        return bool(sampling_jobs(database)[0][0] == "queued")

    wait_for(taken_back, 3)
    assert background._sweep_pause() == 2.0


def test_the_pulse_reports_and_the_sweeper_reclaims_and_wakes(
    database: Database, job_ids: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(
        "hsstar.workers.background.send_wake_up", lambda app, job_id, kind: sent.append(job_id)
    )
    worker = make_worker(database, lease_seconds=0.4)
    with database.begin() as connection:
        claim(connection, job_ids[0], "dead", lease_seconds=0.2)
    worker.start()
    with database.begin() as connection:
        connection.execute(text("UPDATE workers SET last_heartbeat = now() - interval '1 hour'"))
    wait_for(lambda: sampling_jobs(database)[0][0] == "queued" and job_ids[0] in sent)
    begun = "SELECT last_heartbeat > now() - interval '1 minute' FROM workers"
    with database.begin() as connection:
        wait_for(lambda: connection.scalar(text(begun)))
    worker.stop()


def test_a_periodic_action_that_fails_is_said_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def expected() -> None:
        raise ConflictError("another one has it")

    def unexpected() -> None:
        raise ZeroDivisionError("by accident")

    for action in (expected, unexpected):
        guarded(action)
    assert [(record.levelname, record.exc_info is not None) for record in caplog.records] == [
        ("WARNING", False),
        ("ERROR", True),
    ]
    assert "another one has it" in caplog.text


def test_a_note_that_cannot_be_stored_is_said(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
        workers.register(connection, "other", "host", 1, "sample")
    note_taker(database, "worker")("waits for its server")
    assert worker_row(database)["note"] == "waits for its server"
    assert worker_row(database, "other")["note"] is None
    note_taker(Database("postgresql://nobody@127.0.0.1:1/nowhere"), "worker")("is lost")
    assert "a note was not stored: cannot reach the database" in caplog.text


# --- orders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revision", "code", "note"),
    [
        (
            SCHEMA_REVISION,
            WorkerExit.DRAINED,
            "this worker was asked to stop: it takes no more jobs and ends",
        ),
        ("9999_newer", WorkerExit.WRONG_SCHEMA, "ends: the schema is at revision 9999_newer"),
        ("0000_older", WorkerExit.WRONG_SCHEMA, "ends: the schema is at revision 0000_older"),
    ],
)
def test_an_order_to_end_is_obeyed_once(
    database: Database, job_ids: list[int], terminations: list[int], revision: str, code: int, note: str
) -> None:
    worker = make_worker(database)
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
        workers.register(connection, "other", "host", 1, "sample")
        workers.request_stop(connection, ["other"], [], everyone=False)
    worker.background.report()
    assert (terminations, worker.leaving, worker.exit_code) == ([], False, WorkerExit.STOPPED)
    if code == WorkerExit.DRAINED:
        with database.begin() as connection:
            workers.request_stop(connection, ["worker"], [], everyone=False)
    set_schema(database, revision)
    for _ in range(2):
        worker.background.report()
    assert terminations == [signal.SIGTERM]
    assert (worker.leaving, worker.exit_code) == (True, code)
    assert note in worker_row(database)["note"]
    worker.run_job(job_ids[0])
    assert {state for state, _, _ in sampling_jobs(database)} == {"queued"}
    other = make_worker(database)
    other.leave()
    other.background.report()  # it leaves already
    assert (len(terminations), other.exit_code) == (1, WorkerExit.STOPPED)


# --- the program --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roles", "at_once"), [([JobKind.SAMPLE], 5), ([JobKind.VERIFY], 1), ([JobKind.TRAIN], 1), (ALL_KINDS, 1)]
)
def test_only_a_worker_that_samples_and_does_nothing_else_takes_several_jobs(
    database: Database, roles: list[JobKind], at_once: int
) -> None:
    """What Celery is told, and what `run_job` lets in."""
    told: dict[str, object] = {}

    class Celery:
        exitcode: int | None = 7

        def __init__(self, **options: object) -> None:
            told.update(options)

        def start(self) -> None:
            told["started"] = True

    app = make_app("memory://")
    app.Worker = Celery
    worker = make_worker(database, name="w@host", roles=roles, jobs_in_flight=5)
    assert program._take_messages(app, worker, list(roles), "error") == 7
    assert told["started"]
    assert (told["hostname"], told["loglevel"]) == ("w@host", "error")
    assert (told["concurrency"], told["pool"]) == (at_once, "threads")
    assert told["queues"] == [kind.value for kind in roles]
    assert all(told[f"without_{part}"] for part in ("gossip", "mingle", "heartbeat"))
    for _ in range(at_once):
        assert not worker.busy
        assert worker._free_slots.acquire(blocking=False)
        worker._active_slots += 1
    assert worker.busy
    assert not worker._free_slots.acquire(blocking=False)
    Celery.exitcode = None
    assert program._take_messages(app, worker, list(roles), "error") == 0
    Celery.exitcode = 7
    worker.leave()
    assert program._take_messages(app, worker, list(roles), "error") == 0  # to Celery Ctrl-C is a failure


def exit_of(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    monkeypatch.setattr(sys, "argv", ["workers", *arguments])
    with pytest.raises(SystemExit) as end:
        program.main()
    return end.value.code


@pytest.mark.usefixtures("terminations")
def test_a_program_that_may_not_begin_says_why_by_its_exit_code(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable, value in (("DATABASE_URL", database.url), ("BROKER_URL", "memory://")):
        monkeypatch.setenv(f"HSSTAR_{variable}", value)
    name = f"verify-{os.getpid()}@{socket.gethostname()}"  # where it is given none
    with database.begin() as connection:
        workers.register(connection, name, socket.gethostname(), 1 << 30, "verify")
        workers.request_stop(connection, [name], [], everyone=False)
    assert exit_of(monkeypatch, "--role", "verify") == 80
    assert capsys.readouterr().err.startswith(f"hsstar worker: {name} was asked to stop")

    set_schema(database, "9999_newer")
    assert exit_of(monkeypatch, "--role", "verify") == 81
    assert capsys.readouterr().err.startswith("hsstar worker: the schema is at revision 9999_newer")

    monkeypatch.delenv("HSSTAR_BROKER_URL")
    assert exit_of(monkeypatch, "--role", "verify") == 1
    assert "a worker needs HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL" in capsys.readouterr().err
    assert exit_of(monkeypatch, "--role", "cook") == 2


def test_one_worker_gets_its_servers_by_its_environment_and_not_by_its_command_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[str, list[str], dict[str, str]]] = []

    def become(path: str, argv: list[str], environment: dict[str, str]) -> None:
        became.append((path, argv, environment))

    monkeypatch.setattr(os, "execve", become)
    secret = tmp_path / "database_url"
    secret.write_text(database.url)
    secret.chmod(0o600)
    broker = "redis://:s3cret@broker:6379/0"
    monkeypatch.delenv("HSSTAR_DATABASE_URL", raising=False)
    monkeypatch.setenv("HSSTAR_DATABASE_URL_FILE", str(secret))
    monkeypatch.setenv("HSSTAR_BROKER_URL", broker)
    monkeypatch.setenv("TEST_OWN", "kept")
    for arguments in (["--role", "verify"], ["--role", "verify=1", "--name", "night", "--gpus", "none"]):
        done = CliRunner().invoke(hsstar, ["worker", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    plain, planned = became
    for path, argv, environment in became:
        assert path == argv[0] == sys.executable
        assert argv[1:6] == ["-P", "-m", "hsstar.workers", "--role", "verify"]
        assert environment["HSSTAR_DATABASE_URL"] == database.url
        assert environment["HSSTAR_BROKER_URL"] == broker
        assert environment["HSSTAR_DATABASE_URL_FILE"] == environment["HSSTAR_BROKER_URL_FILE"] == ""
        assert environment["TEST_OWN"] == "kept"
    assert (plain[1][6:], planned[1][6:]) == ([], ["--name", "night"])
    assert planned[2]["CUDA_VISIBLE_DEVICES"] == ""
    assert planned[2]["OMP_WAIT_POLICY"] == "PASSIVE"
