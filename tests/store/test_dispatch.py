"""One wake-up is enough for all that waits: what a worker takes and hands over with and without messages."""

import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from kombu.exceptions import OperationalError
from sqlalchemy import text

from hsstar.conductor import Conductor
from hsstar.domain.lifecycle import JobKind
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups
from hsstar.store.queue.jobs import Job
from hsstar.workers import runtime
from hsstar.workers.app import make_app
from hsstar.workers.background import Background
from hsstar.workers.runtime import STAGES, Worker
from tests.store import drawing
from tests.store.drawing import FragileSampler, add_sampling, responses, sampling_jobs, unread_checkpoint
from tests.store.factory import add_iteration, add_job, add_problems, add_run, claim, state_of
from tests.waiting import wait_for

MakeWorker = Callable[..., Worker]
WakeUps = list[tuple[int, JobKind]]
Sampling = tuple[int, list[int]]


@pytest.fixture
def make_worker(database: Database) -> MakeWorker:
    return partial(drawing.make_worker, database)


@pytest.fixture
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> WakeUps:
    """The messages that were sent; nobody receives them."""
    sent: WakeUps = []
    monkeypatch.setattr(
        "hsstar.workers.background.send_wake_up", lambda app, job_id, kind: sent.append((job_id, kind))
    )
    return sent


@pytest.fixture
def sampling(database: Database, tmp_path: Path) -> Sampling:
    """A round of 64 samples in four jobs."""
    return add_sampling(database, "run", unread_checkpoint(tmp_path / "policy"), 16, 4)


def states(database: Database, job_ids: list[int]) -> list[str]:
    with database.begin() as connection:
        return [state_of(connection, job_id) for job_id in job_ids]


def wait_a_minute(database: Database) -> None:
    """Every job has waited for a minute."""
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET available_at = now() - interval '1 minute'"))


# --- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_one_message_is_enough_for_every_queued_job_and_the_named_one_comes_first(
    database: Database,
    make_worker: MakeWorker,
    sampling: Sampling,
    wake_ups: WakeUps,
    one_at_a_time: bool,
) -> None:
    round_id, job_ids = sampling
    make_worker(one_at_a_time=one_at_a_time).run_message(job_ids[2])
    assert sampling_jobs(database) == [("done", 1, 16)] * 4
    assert len(responses(database, round_id)) == 64
    with database.begin() as connection:
        started = connection.execute(text("SELECT id FROM jobs WHERE kind = 'sample' ORDER BY started_at"))
        assert list(started.scalars()) == [job_ids[2], job_ids[0], job_ids[1], job_ids[3]]


def test_after_a_while_a_worker_reads_from_the_broker_again(
    database: Database, make_worker: MakeWorker, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_SECONDS_PER_MESSAGE", -1.0)
    make_worker().run_job(sampling[1][0])
    assert states(database, sampling[1]) == ["done", "queued", "queued", "queued"]


@pytest.mark.parametrize("job_id", [None, True, "1", 1.0, 0, -1, 1 << 63])
def test_a_message_that_names_no_job_is_ignored(
    database: Database, make_worker: MakeWorker, sampling: Sampling, job_id: object
) -> None:
    make_worker().run_message(job_id)
    assert states(database, sampling[1]) == ["queued"] * 4


def test_a_message_whose_job_was_taken_serves_another(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    with database.begin() as connection:
        held = claim(connection, sampling[1][0], "another")
    make_worker().run_message(held.id, "and", more="that is ignored")
    assert states(database, sampling[1]) == ["running", "done", "done", "done"]


def test_jobs_of_other_kinds_and_jobs_that_have_to_wait_are_left_alone(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    round_id, job_ids = sampling
    with database.begin() as connection:
        others = [add_job(connection, round_id, kind) for kind in JobKind if kind is not JobKind.SAMPLE]
        connection.execute(
            text("UPDATE jobs SET available_at = now() + interval '1 minute' WHERE id = :id"),
            {"id": job_ids[1]},
        )
    make_worker().run_job(1 << 62)  # a job that does not exist
    assert states(database, job_ids) == ["done", "queued", "done", "done"]
    assert states(database, others) == ["queued"] * 3


def test_others_get_a_wake_up_for_what_a_job_has_added(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    make_worker().run_job(sampling[1][0])
    with database.begin() as connection:
        verifications = connection.execute(
            text("SELECT id FROM jobs WHERE kind = 'verify' ORDER BY id")
        ).scalars()
        assert [job_id for job_id, kind in wake_ups if kind is JobKind.VERIFY] == list(verifications)
        assert wakeups.claim_due_wakeups(connection) == []
    assert len(wake_ups) == len(set(wake_ups))


def test_a_job_that_adds_nothing_asks_nobody(
    database: Database, make_worker: MakeWorker, wake_ups: WakeUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(context: WorkerContext, job: jobs.Job) -> list[int]:
        with context.database.begin() as connection:
            jobs.complete(connection, job)
        return []

    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        job_ids = [add_job(connection, round_id, JobKind.VERIFY) for _ in range(3)]
        other = add_job(connection, round_id, JobKind.SCORE)  # keeps the round where it is
    monkeypatch.setitem(STAGES, JobKind.VERIFY, nothing)
    make_worker(roles=[JobKind.VERIFY]).run_job(job_ids[0])
    assert states(database, [*job_ids, other]) == ["done", "done", "done", "queued"]
    assert wake_ups == []


def test_after_a_failure_the_other_jobs_are_left_to_their_messages(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    make_worker(lambda *_: FragileSampler(lives_for=0)).run_job(sampling[1][0])
    assert sampling_jobs(database) == [("queued", attempts, 16) for attempts in (1, 0, 0, 0)]
    assert [job_id for job_id, _ in wake_ups] == sampling[1][1:]  # the first one has to wait a second


def test_a_worker_that_has_to_leave_ends_its_job_and_takes_no_other(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    engine = FragileSampler(stalls_after=3)
    worker = make_worker(lambda *_: engine)
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_for(lambda: engine.asked)
    worker.leave()
    engine.released.set()
    working.join()
    assert states(database, sampling[1]) == ["done", "queued", "queued", "queued"]
    worker.run_job(sampling[1][1])
    assert states(database, sampling[1]) == ["done", "queued", "queued", "queued"]


@pytest.mark.parametrize(("at_once", "busy"), [(1, True), (2, False)])
def test_a_worker_counts_as_busy_between_two_jobs(
    make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps, at_once: int, busy: bool
) -> None:
    worker = make_worker(jobs_in_flight=at_once)
    seen: list[bool] = []

    class Watched(Conductor):
        def after_job(self, job: Job, problem_ids: list[int], following: Job | None = None) -> bool:
            seen.append(worker.busy)
            return super().after_job(job, problem_ids, following)

    worker.conductor = Watched(worker.database, drawing.JOB_SAMPLES, 3)
    worker.run_job(sampling[1][0])
    assert seen == [busy] * 4
    assert not worker.busy


# --- wake-ups -----------------------------------------------------------------------------------------


def due(database: Database) -> list[int]:
    with database.begin() as connection:
        return [job_id for job_id, _ in wakeups.claim_due_wakeups(connection)]


def test_wake_ups_that_nobody_takes_stay_due(
    database: Database, make_worker: MakeWorker, sampling: Sampling, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = make_app(f"amqp://127.0.0.1:{port}//")
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}
    Background(make_worker(), app, lambda: None).send_wakeups()
    assert "the broker does not accept wake-ups" in caplog.text
    assert due(database) == sampling[1]


@pytest.mark.parametrize("error", [OperationalError("gone"), OSError("reset")])
def test_after_a_refused_wake_up_it_and_the_rest_stay_due(
    database: Database,
    make_worker: MakeWorker,
    sampling: Sampling,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    sent: list[int] = []

    def send(app: object, job_id: int, kind: JobKind) -> None:
        if len(sent) == 1:
            raise error
        sent.append(job_id)

    monkeypatch.setattr("hsstar.workers.background.send_wake_up", send)
    make_worker().background.send_wakeups()
    assert sent == sampling[1][:1]
    assert due(database) == sampling[1][1:]


# --- no message ---------------------------------------------------------------------------------------


def test_a_worker_that_hears_nothing_helps_itself(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    """No message is ever sent: as if the broker had lost them all, or this worker."""
    worker = make_worker(jobs_in_flight=1)
    poll = worker.background.poll_without_broker
    wait_a_minute(database)
    poll()  # engines cannot be built yet
    worker.background.start_polling()
    worker._active_slots = 1
    poll()  # it has as many jobs as it takes
    worker._active_slots = 0
    worker.leaving = True
    poll()
    worker.leaving = False
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET available_at = now()"))
    poll()  # no job has waited for long
    assert worker.background._polling_thread is None
    wait_a_minute(database)
    poll()
    wait_for(lambda: sampling_jobs(database) == [("done", 1, 16)] * 4)
    assert len(responses(database, sampling[0])) == 64


def test_jobs_without_a_message_are_taken_by_one_thread(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    engine = FragileSampler(stalls_after=0)
    worker = make_worker(lambda *_: engine, jobs_in_flight=3)
    worker.background.start_polling()
    wait_a_minute(database)
    worker.background.poll_without_broker()
    first = worker.background._polling_thread
    worker.background.poll_without_broker()
    assert worker.background._polling_thread is first is not None
    engine.released.set()
    first.join()
    assert sampling_jobs(database) == [("done", 1, 16)] * 4


def test_a_worker_that_stops_keeps_the_lease_of_the_job_that_it_took_itself(
    database: Database, make_worker: MakeWorker, sampling: Sampling, wake_ups: WakeUps
) -> None:
    engine = FragileSampler(stalls_after=5)
    worker = make_worker(lambda *_: engine, lease_seconds=0.8)
    wait_a_minute(database)
    worker.start()
    worker.background.start_polling()
    wait_for(lambda: engine.asked)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    watcher = Database(database.url)
    leases: set[object] = set()

    def renewed_often() -> bool:
        with watcher.begin() as connection:
            leases.add(connection.scalar(text("SELECT max(lease_expires_at) FROM jobs")))
        return len(leases) > 6

    wait_for(renewed_often)
    engine.released.set()
    stopping.join()
    watcher.close()
    assert sampling_jobs(database) == [("done", 1, 16), *[("queued", 0, 16)] * 3]
    assert engine.asked == [16]
