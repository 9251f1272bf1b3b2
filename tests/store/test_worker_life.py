"""What a worker takes over, reports and obeys, from its start to its end, and what its row keeps."""

import os
import signal
import socket
import sys
import threading
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, text

from hsstar import __version__
from hsstar.cli.main import hsstar
from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.local.holders import Holder
from hsstar.store.database import SCHEMA_REVISION, Database
from hsstar.store.queue import workers
from hsstar.workers import __main__ as program
from hsstar.workers.app import make_app
from hsstar.workers.background import guarded
from hsstar.workers.context import note_taker
from tests.store.drawing import (
    FragileSampler,
    Sampling,
    WakeUps,
    execute,
    make_worker,
    register,
    request_stop,
    scalars,
    set_gpus,
    stalled,
    worker_row,
)
from tests.store.factory import add_job, add_round, add_worker, beat, claim, select
from tests.store.threads import beside
from tests.waiting import wait_for

ALL_KINDS = list(JobKind)
HOST, PROCESS, DEAD = socket.gethostname(), os.getpid(), 1 << 30
SPACE = Holder.now().process_space


def lease_seconds(database: Database, since: str) -> float:
    query = f"SELECT extract(epoch FROM lease_expires_at - {since}) FROM jobs WHERE state = 'running'"
    (seconds,) = scalars(database, query)
    return float(seconds)


def set_schema(database: Database, revision: str) -> None:
    execute(database, "UPDATE alembic_version SET version_num = :revision", revision=revision)


# --- the start ----------------------------------------------------------------------------------------


def test_what_dead_workers_held_is_taken_back_with_the_attempts_of_the_settings(database: Database) -> None:
    with database.begin() as connection:
        round_id, (problem,) = add_round(connection, 1)
        for slot, (worker, seconds) in enumerate((("worker", 3600), ("dead", -1), ("another", 3600))):
            claim(connection, add_job(connection, round_id, items={problem: [slot]}), worker, seconds)
    restarted = make_worker(database, max_attempts=1)
    restarted.start()
    found = "SELECT state FROM jobs ORDER BY id"
    assert scalars(database, found)[0] == "failed"
    restarted.conductor.sweep()
    restarted.stop()
    assert scalars(database, found) == ["failed", "queued", "running"]  # an expired lease is no attempt yet


def test_the_jobs_of_a_round_have_the_size_of_the_settings(database: Database) -> None:
    with database.begin() as connection:
        add_round(connection, 4)  # of 3 samples each
    make_worker(database, job_samples=6).conductor.sweep()
    query = "SELECT sum(cardinality(slots)) FROM job_items GROUP BY job_id"
    assert scalars(database, query) == [6, 6]


@pytest.mark.parametrize(
    ("roles", "gpu"), [([JobKind.VERIFY], None), ([JobKind.SAMPLE], "0,1"), (ALL_KINDS, "0,1")]
)
def test_what_a_worker_is_stands_in_its_row(
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    roles: list[JobKind],
    gpu: str | None,
) -> None:
    set_gpus(tmp_path, monkeypatch, 2)
    worker = make_worker(database, roles=roles)
    worker.start()
    row = worker_row(database)
    worker.stop()
    expected = {"host": HOST, "process": PROCESS, "role": ",".join(roles), "gpu": gpu, "version": __version__}
    expected |= {"state": "idle", "jobs_done": 0, "tokens_done": 0}
    assert {name: row[name] for name in expected} == expected
    assert worker_row(database)["state"] == "stopped"


def test_a_name_belongs_to_one_living_process(database: Database) -> None:
    """In a container that is started again the next worker has host, name and pid of the last."""
    with database.begin() as connection:
        for name, process in (("worker", PROCESS), ("other", os.getppid()), ("dead", DEAD)):
            add_worker(connection, name, host=HOST, process=process, space=SPACE)
    for name in ("worker", "dead"):
        worker = make_worker(database, name=name)
        worker.start()
        worker.stop()
    with pytest.raises(ConflictError, match="a worker named 'other' is at work"):
        make_worker(database, name="other").start()


@pytest.mark.parametrize("alive", [True, False])
def test_of_two_workers_of_one_name_that_cannot_see_each_other_the_one_with_a_heartbeat_has_it(
    database: Database, monkeypatch: pytest.MonkeyPatch, alive: bool
) -> None:
    """Two containers of one host name, say, with the same process id."""
    monkeypatch.setattr(workers, "_SILENT_BEATS", 0.5)
    with database.begin() as connection:
        rival = add_worker(connection, "worker", host=HOST, process=PROCESS, space="another container")
    starting = make_worker(database)
    ended = threading.Event()

    def live() -> None:
        while alive and not ended.wait(0.2):
            with database.begin() as connection:
                beat(connection, rival)

    refused = pytest.raises(ConflictError, match=f"'worker' is at work on {HOST}")
    with beside(live), refused if alive else nullcontext():
        try:
            starting.start()
        finally:
            ended.set()
    starting.stop()
    with database.begin() as connection:
        assert beat(connection, rival).stop is (False if alive else None)


def test_a_worker_whose_name_another_has_by_now_ends(database: Database, terminations: list[int]) -> None:
    """It was frozen, say, until it counted as dead."""
    worker = make_worker(database)
    register(database, "worker")
    worker.background.report()
    assert (terminations, worker.exit_code) == ([signal.SIGTERM], WorkerExit.FAILED)
    worker.stop()
    assert worker_row(database)["state"] == "idle"  # the other's


def test_a_stop_releases_the_jobs_without_an_attempt_and_closes_the_engines(sampling: Sampling) -> None:
    engine = FragileSampler()
    worker = sampling.worker(lambda *_: engine)
    worker.start()
    for _ in range(2):
        worker._claim(None)
    worker.run_job(sampling.job_ids[2])
    assert not engine.closed
    worker.stop()
    assert sampling.jobs() == [("queued", 0, 16)] * 2 + [("done", 1, 16)] * 2
    assert (worker_row(sampling.database)["state"], worker.leaving, engine.closed) == ("stopped", True, True)


# --- leases and heartbeats ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("one_at_a_time", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_a_job_is_leased_for_the_seconds_of_the_settings_and_again_with_each_beat(
    sampling: Sampling, one_at_a_time: bool, named: bool
) -> None:
    def report() -> tuple[str, int]:
        worker.background.report()
        row = worker_row(database)
        return row["state"], row["jobs_done"]

    engine, database = FragileSampler(stalls_after=0), sampling.database
    settings = {"roles": ALL_KINDS if one_at_a_time else [JobKind.SAMPLE], "jobs_in_flight": 1}
    worker = sampling.worker(lambda *_: engine, **settings, one_at_a_time=one_at_a_time, lease_seconds=17.0)
    register(database, worker)
    with stalled(worker, engine, sampling.job_ids[0] if named else None):
        assert lease_seconds(database, "started_at") == 17
        execute(database, "UPDATE jobs SET lease_expires_at = now() WHERE state = 'running'")
        execute(database, "UPDATE workers SET last_heartbeat = now() - interval '1 hour'")
        assert report() == ("busy", 0)
        assert 12 < lease_seconds(database, "now()") <= 17
        worker.leave()
    assert report() == ("idle", 1)
    assert scalars(database, "SELECT now() - last_heartbeat < interval '10 s' FROM workers") == [True]


def test_a_lease_lasts_for_four_beats_at_least(database: Database) -> None:
    tested = [make_worker(database, lease_seconds=lease) for lease in (60.0, 8.0, 2.0)]
    assert [worker.background._beat_pause() for worker in tested] == [2.0, 2.0, 0.5]


@pytest.mark.parametrize(("living", "seconds"), [(0, 2.0), (250, 2.0), (500, 4.0), (5_000, 8.0)])
def test_the_heartbeats_of_a_large_fleet_are_rarer(sampling: Sampling, living: int, seconds: float) -> None:
    first, second = (sampling.worker(name=name) for name in ("first", "second"))
    register(sampling.database, first, second)
    others = """
        INSERT INTO workers (name, host, process, role, state, instance, process_space, last_heartbeat)
        SELECT n, '', 0, '', CASE WHEN n > 2 THEN 'idle' ELSE 'stopped' END, gen_random_uuid(), '',
            now() - make_interval(mins => CASE WHEN n < 5 THEN 2 ELSE 0 END)
        FROM generate_series(1, :count) AS n
    """
    with sampling.database.begin() as connection:
        connection.execute(text(others), {"count": max(0, living + 2)})  # of them two stopped, two are lost
    for worker in (first, second, second):
        worker.background.report()
        worker.background.sweep()
    assert (first.background._beat_pause(), second.background._beat_pause()) == (1.0, seconds)


def test_one_worker_sweeps_at_a_time(sampling: Sampling, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves or is silent loses its place, and so does one whose sweep hangs."""
    first, second = (sampling.worker(name=name) for name in ("first", "second"))
    register(sampling.database, first, second)

    def sweeps() -> list[bool]:
        for worker in (first, second):
            worker.background.report()
        return [
            bool(worker.background._orders and worker.background._orders.sweeps) for worker in (first, second)
        ]

    def silent() -> None:
        execute(sampling.database, "UPDATE sweeper SET until = until - interval '3 seconds'")

    assert [sweeps(), sweeps()] == [[True, False]] * 2
    assert [worker.background._beat_pause() for worker in (first, second)] == [1.0, 2.0]
    silent()
    second.background.report()
    assert sweeps() == [False, True]
    second.background._last_sweep -= 31
    assert sweeps() == [False, False]
    silent()
    assert sweeps() == [True, False]
    first.leave()
    silent()
    second.background.sweep()
    assert sweeps() == [False, True]
    second.stop()
    first.leaving = False
    assert sweeps()[0]


def test_only_the_sweeper_reclaims_and_wakes(sampling: Sampling, wake_ups: WakeUps) -> None:
    first, second = (sampling.worker(name=name) for name in ("first", "second"))
    register(sampling.database, first, second)
    for worker in (first, second):
        worker.background.report()
    with sampling.database.begin() as connection:
        claim(connection, sampling.job_ids[0], "dead", lease_seconds=-1)
    second.background.sweep()
    assert (sampling.states()[0], wake_ups) == ("running", [])
    first.background.sweep()
    assert (sampling.states()[0], len(wake_ups)) == ("queued", 4)


def test_nothing_is_taken_back_for_one_lease_after_nobody_could_sweep(sampling: Sampling) -> None:
    """A suspended machine, a database that was away, a clock that was set forward."""
    conductor = sampling.worker(lease_seconds=20.0).conductor
    conductor.sweep()
    with sampling.database.begin() as connection:
        claim(connection, sampling.job_ids[0], "w", lease_seconds=-1)
    for seconds, state in ((21, "running"), (0, "running"), (19, "running")):
        execute(sampling.database, f"UPDATE sweeper SET swept_at = swept_at - interval '{seconds} s'")
        conductor.sweep()
        assert (seconds, sampling.states()[0]) == (seconds, state)
    execute(sampling.database, "UPDATE sweeper SET patient_until = now() - interval '1 ms'")
    conductor.sweep()
    assert sampling.states()[0] == "queued"


def test_a_clock_that_is_set_back_makes_nothing_wait(sampling: Sampling) -> None:
    conductor = sampling.worker(lease_seconds=20.0).conductor
    conductor.sweep()
    with sampling.database.begin() as connection:
        claim(connection, sampling.job_ids[0], "w", lease_seconds=3_620)
    late = "available_at = now() + interval '1 hour', wakeup_sent_at = now() + interval '1 hour'"
    execute(sampling.database, f"UPDATE jobs SET {late} WHERE state = 'queued'")
    execute(sampling.database, "UPDATE sweeper SET swept_at = now() + interval '1 hour'")
    conductor.sweep()
    assert 10 < lease_seconds(sampling.database, "now()") <= 20
    waiting = "SELECT available_at <= now() AND wakeup_sent_at IS NULL FROM jobs WHERE state = 'queued'"
    assert scalars(sampling.database, waiting) == [True] * 3


def test_a_job_that_gets_no_further_ends_its_worker_as_an_attempt(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    exits: list[int] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    engine = FragileSampler(stalls_after=3)
    worker = sampling.worker(lambda *_: engine, stall_seconds=0.5)
    register(sampling.database, worker)
    with stalled(worker, engine, sampling.job_ids[0]):
        worker.background.report()
        assert exits == []
        (job,) = worker.held.values()
        wait_for(lambda: worker.still_seconds(job) > 0.5)
        worker.background.report()
        assert exits == [WorkerExit.FAILED]
        assert sampling.jobs()[0] == ("queued", 1, 16)
        assert "no progress for" in worker_row(sampling.database)["note"]


def test_the_pulse_reports_and_the_sweeper_reclaims_and_wakes(sampling: Sampling, wake_ups: WakeUps) -> None:
    database, job_id = sampling.database, sampling.job_ids[0]
    worker = sampling.worker(lease_seconds=0.4)
    with database.begin() as connection:
        claim(connection, job_id, "dead", lease_seconds=0.2)
    worker.start()
    execute(database, "UPDATE workers SET last_heartbeat = now() - interval '1 hour'")
    wait_for(lambda: sampling.states()[0] == "queued" and (job_id, JobKind.SAMPLE) in wake_ups)
    reports = "SELECT last_heartbeat > now() - interval '1 minute' FROM workers"
    wait_for(lambda: scalars(database, reports) == [True])
    worker.stop()


def test_a_periodic_action_that_fails_is_said_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> None:
        raise error

    for error in (ConflictError("another one has it"), ZeroDivisionError("by accident")):
        guarded(partial(fail, error))
    told = [(record.levelname, record.message, record.exc_info is not None) for record in caplog.records]
    assert told == [("WARNING", "another one has it", False), ("ERROR", "a periodic action failed", True)]


def test_a_note_that_cannot_be_stored_is_said(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    register(database, "worker", "other")
    note_taker(database, "worker")("waits for its server")
    notes = [worker_row(database, name)["note"] for name in ("worker", "other")]
    assert notes == ["waits for its server", None]
    note_taker(Database("postgresql://nobody@127.0.0.1:1/nowhere"), "worker")("is lost")
    assert "a note was not stored: cannot reach the database" in caplog.text


# --- orders -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revision", "code", "note"),
    [
        (SCHEMA_REVISION, WorkerExit.DRAINED, "was asked to stop: it takes no more jobs and ends"),
        ("9999_newer", WorkerExit.WRONG_SCHEMA, "ends: the schema is at revision 9999_newer"),
        ("0000_older", WorkerExit.WRONG_SCHEMA, "ends: the schema is at revision 0000_older"),
    ],
)
def test_an_order_to_end_is_obeyed_once(
    sampling: Sampling, terminations: list[int], revision: str, code: int, note: str
) -> None:
    database, worker = sampling.database, sampling.worker()
    register(database, worker, "other")
    request_stop(database, "other")
    worker.background.report()
    assert (terminations, worker.leaving, worker.exit_code) == ([], False, WorkerExit.STOPPED)
    if code == WorkerExit.DRAINED:
        request_stop(database, "worker")
    set_schema(database, revision)
    for _ in range(2):
        worker.background.report()
    assert (terminations, worker.leaving, worker.exit_code) == ([signal.SIGTERM], True, code)
    assert note in worker_row(database)["note"]
    worker.run_job(sampling.job_ids[0])
    assert sampling.states() == ["queued"] * 4
    other = sampling.worker()
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

    def celery(**options: object) -> SimpleNamespace:
        told.update(options)
        return ended

    ended = SimpleNamespace(exitcode=7, start=lambda: told.update(started=True))
    app = make_app("test", "memory://")
    app.Worker = celery
    worker = make_worker(database, name="w@host", roles=roles, jobs_in_flight=5)
    take_messages = partial(program._take_messages, app, worker, roles, "error")
    assert take_messages() == 7
    expected = {"hostname": "w@host", "loglevel": "error", "concurrency": at_once, "pool": "threads"}
    yes = ("started", "quiet", "without_gossip", "without_mingle", "without_heartbeat")
    assert told == expected | dict.fromkeys(yes, True) | {"queues": [f"hsstar-test.{role}" for role in roles]}
    for _ in range(at_once):
        assert (worker.busy, worker._free_slots.acquire(blocking=False)) == (False, True)
        worker._active_slots += 1
    assert (worker.busy, worker._free_slots.acquire(blocking=False)) == (True, False)
    ended.exitcode = None
    assert take_messages() == 0
    ended.exitcode = 7
    worker.leave()
    assert take_messages() == 0  # to Celery Ctrl-C is a failure


@pytest.mark.usefixtures("terminations")
def test_a_program_that_cannot_work_says_why_by_its_exit_code(
    database: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ends(code: int, message: str, role: str = "verify") -> None:
        monkeypatch.setattr(sys, "argv", ["workers", "--role", role])
        with pytest.raises(SystemExit) as end:
            program.main()
        assert end.value.code == code
        assert message in capsys.readouterr().err

    for variable, value in (("DATABASE_URL", database.url), ("BROKER_URL", "memory://")):
        monkeypatch.setenv(f"HSSTAR_{variable}", value)
    refused = SimpleNamespace(exitcode=7, start=lambda: None)
    monkeypatch.setattr("celery.Celery.Worker", lambda *_, **__: refused)
    ends(7, "")  # Celery has said why
    name = f"verify-{PROCESS}@{HOST}"  # where it is given none
    with database.begin() as connection:
        add_worker(connection, name, "verify", host=HOST, process=DEAD, space=SPACE)
    request_stop(database, name)
    ends(80, f"hsstar worker: {name} was asked to stop")
    assert worker_row(database, name)["state"] == "stopped"  # the next one may begin
    set_schema(database, "9999_newer")
    ends(81, "hsstar worker: the schema is at revision 9999_newer")
    monkeypatch.delenv("HSSTAR_BROKER_URL")
    ends(1, "a worker needs HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL")
    ends(2, "invalid choice: 'cook'", role="cook")


def test_one_worker_gets_its_servers_by_its_environment_and_not_by_its_command_line(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    became: list[tuple[Any, ...]] = []
    monkeypatch.setattr(os, "execve", lambda *program: became.append(program))
    secret = tmp_path / "database_url"
    secret.write_text(database.url)
    secret.chmod(0o600)
    monkeypatch.delenv("HSSTAR_DATABASE_URL", raising=False)
    monkeypatch.setenv("HSSTAR_DATABASE_URL_FILE", str(secret))
    expected = {"HSSTAR_BROKER_URL": "redis://:s3cret@broker:6379/0", "TEST_OWN": "kept"}
    for variable, value in expected.items():
        monkeypatch.setenv(variable, value)
    CliRunner().invoke(hsstar, ["worker", "--role", "verify"], catch_exceptions=False)
    ((path, argv, environment),) = became
    assert [path, *argv] == [*[sys.executable] * 2, "-P", "-m", "hsstar.workers", "--role", "verify"]
    expected |= dict.fromkeys(("HSSTAR_DATABASE_URL_FILE", "HSSTAR_BROKER_URL_FILE"), "")
    expected |= {"HSSTAR_DATABASE_URL": database.url}
    assert {variable: environment[variable] for variable in expected} == expected


# --- rows ---------------------------------------------------------------------------------------------


def add_silent(connection: Connection, name: str, role: str = "sample", silent_for: int = 0) -> None:
    add_worker(connection, name, role, process=7)
    hear_nothing(connection, name, silent_for)


def hear_nothing(connection: Connection, name: str, seconds: int) -> None:
    statement = "UPDATE workers SET last_heartbeat = now() - make_interval(secs => :s) WHERE name = :name"
    connection.execute(text(statement), {"s": seconds, "name": name})


@pytest.mark.parametrize(
    ("lives", "silent_for", "stopped", "free"),
    [(True, 29, False, False), (False, 29, False, True), (True, 30, False, True), (True, 0, True, True)],
)
def test_a_name_is_free_unless_its_worker_may_live(
    database: Database, lives: bool, silent_for: int, stopped: bool, free: bool
) -> None:
    with database.begin() as connection:
        for name in ("other", "mine"):
            add_worker(connection, name, process=7)
        if stopped:
            workers.deregister(connection, "mine")
        hear_nothing(connection, "mine", silent_for)
    refusal = pytest.raises(ConflictError, match=r"'mine' is at work on host \(process 7\); .* --name")
    with nullcontext() if free else refusal:
        workers.wait_for_name(database, "mine", "space", lambda process: lives and process == 7)
    workers.wait_for_name(database, "new", "space", lambda process: True)


def test_a_new_start_leaves_nothing_of_the_old_row(connection: Connection) -> None:
    add_worker(connection, "mine", "score", host="old host", process=6, gpu="old gpu", version="0.9")
    workers.set_note(connection, "mine", "x" * 2_000)
    assert select(connection, "SELECT length(note), noted_at = now() FROM workers") == [(1_000, True)]
    assert workers.request_stop(connection, ["mine"], [], everyone=False) == ["mine"]
    workers.deregister(connection, "mine")
    earlier = "now() - interval '1 hour'"
    times = f"started_at = {earlier}, last_heartbeat = {earlier}"
    connection.execute(text(f"UPDATE workers SET jobs_done = 5, tokens_done = 6, {times}"))
    add_worker(connection, "mine", host="new host", process=7, gpu="new gpu", version="1.0")
    query = """
        SELECT name, host, process, role, state, gpu, version, jobs_done, tokens_done, started_at = now(),
            last_heartbeat = now(), note, noted_at, stop_requested_at FROM workers
    """
    words = ("mine", "new host", 7, "sample", "idle", "new gpu", "1.0")
    assert select(connection, query) == [(*words, 0, 0, True, True, None, None, None)]


def test_live_workers_are_asked_to_stop_by_name_and_by_all_their_roles(connection: Connection) -> None:
    add_silent(connection, "a@one", silent_for=59)
    add_silent(connection, "a@two", "score")
    add_silent(connection, "b", "sample,score")
    add_silent(connection, "gone", silent_for=60)
    add_silent(connection, "stopped")
    workers.deregister(connection, "stopped")
    for names, roles, asked in (
        (["a"], [], ["a@one", "a@two"]),
        (["b", "a@two"], [], ["a@two", "b"]),
        ([], ["sample,score"], ["b"]),
        ([], ["sample"], ["a@one"]),
    ):
        assert workers.request_stop(connection, names, roles, everyone=False) == asked
    assert workers.request_stop(connection, [], [], everyone=True) == ["a@one", "a@two", "b"]
    query = "SELECT name FROM workers WHERE stop_requested_at IS NOT NULL ORDER BY name"
    assert select(connection, query) == [("a@one",), ("a@two",), ("b",)]
    with pytest.raises(NotFoundError, match="no live worker is named c, gone; see: hsstar workers"):
        workers.request_stop(connection, ["c", "b", "gone"], [], everyone=False)
    with pytest.raises(NotFoundError, match="no live worker has that role"):
        workers.request_stop(connection, [], ["sample", "train"], everyone=False)


def test_a_worker_that_died_after_it_was_asked_to_stop_is_still_to_stop(connection: Connection) -> None:
    def seen() -> tuple[str, bool | None, bool]:
        draining = workers.is_draining(connection, "mine")
        orders = beat(connection, worker)
        return orders.schema, orders.stop, draining

    worker = add_worker(connection, "mine")
    assert seen() == (SCHEMA_REVISION, False, False)
    workers.request_stop(connection, ["mine"], [], everyone=False)
    for silent_for, draining in ((0, True), (59, True), (60, False)):
        hear_nothing(connection, "mine", silent_for)
        assert seen() == (SCHEMA_REVISION, True, draining)
    connection.execute(text("UPDATE alembic_version SET version_num = '9999_newer'"))
    workers.deregister(connection, "mine")
    assert not workers.is_draining(connection, "mine")
    assert beat(connection, worker).schema == "9999_newer"


def test_the_rows_of_workers_are_kept_for_a_week(connection: Connection) -> None:
    for name, days in (("old", 7.01), ("new", 6.99)):
        add_silent(connection, name, silent_for=round(days * 86_400))
    workers.forget_old(connection)
    assert select(connection, "SELECT name FROM workers") == [("new",)]
