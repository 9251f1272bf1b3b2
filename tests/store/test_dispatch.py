"""One wake-up is enough for all that waits: what a worker takes and hands over without messages."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import text

from hsstar.domain.errors import ConflictError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.sampling.contract import Sampler
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups, workers
from hsstar.workers.app import make_app
from hsstar.workers.runtime import STAGES, Worker
from tests.store.drawing import FragileSampler, add_sampling, make_context, responses
from tests.store.factory import add_iteration, add_job, add_problems, add_run, claim, state_of
from tests.store.test_worker import unread_checkpoint
from tests.waiting import wait_for

MakeWorker = Callable[..., Worker]
WakeUps = list[tuple[int, JobKind]]


@pytest.fixture
def make_worker(database: Database, tmp_path: Path) -> MakeWorker:
    def make(
        build: Callable[[], Sampler] = FragileSampler, name: str = "worker", **settings: float
    ) -> Worker:
        context = make_context(database, lambda folder, recipe: build())
        known = Settings(tmp_path, tmp_path, **settings)  # type: ignore[arg-type]
        return Worker(name, [JobKind.SAMPLE], known, context, make_app("memory://"))

    return make


@pytest.fixture
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> WakeUps:
    """The messages that were sent; nobody receives them."""
    sent: WakeUps = []
    monkeypatch.setattr(
        "hsstar.workers.background.send_wake_up", lambda app, job_id, kind: sent.append((job_id, kind))
    )
    return sent


@pytest.fixture
def sampling(database: Database, tmp_path: Path) -> tuple[int, list[int]]:
    """A round of 64 samples in four jobs."""
    return add_sampling(database, "run", unread_checkpoint(tmp_path), 16, 4)


def states(database: Database, job_ids: list[int]) -> list[str]:
    with database.begin() as connection:
        return [state_of(connection, job_id) for job_id in job_ids]


def test_one_message_is_enough_for_every_queued_job(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    round_id, job_ids = sampling
    make_worker().run_job(job_ids[2])
    assert states(database, job_ids) == ["done"] * 4
    assert len(responses(database, round_id)) == 64
    with database.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM jobs WHERE attempts > 1")) == 0
        started = connection.execute(text("SELECT id FROM jobs WHERE kind = 'sample' ORDER BY started_at"))
        assert list(started.scalars()) == [job_ids[2], job_ids[0], job_ids[1], job_ids[3]]


def test_a_message_whose_job_was_taken_serves_another(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    with database.begin() as connection:
        held = claim(connection, sampling[1][0], "another")
    make_worker().run_job(held.id)
    assert states(database, sampling[1]) == ["running", "done", "done", "done"]


def test_others_get_a_wake_up_for_what_a_job_has_added(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
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
    worker = make_worker()
    worker.roles = [JobKind.VERIFY]
    worker.run_job(job_ids[0])
    assert states(database, [*job_ids, other]) == ["done", "done", "done", "queued"]
    assert wake_ups == []


def test_after_a_failure_the_other_jobs_are_left_to_their_messages(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    make_worker(partial(FragileSampler, lives_for=0)).run_job(sampling[1][0])
    assert states(database, sampling[1]) == ["queued"] * 4
    with database.begin() as connection:
        attempts = connection.execute(text("SELECT attempts FROM jobs ORDER BY id")).scalars()
        assert list(attempts) == [1, 0, 0, 0]
    assert [job_id for job_id, _ in wake_ups] == sampling[1][1:]  # the first one has to wait a second


def test_a_worker_that_has_to_leave_ends_its_job_and_takes_no_other(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    engine = FragileSampler(stalls_after=3)
    worker = make_worker(lambda: engine)
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_for(lambda: engine.asked)
    worker.leave()
    engine.released.set()
    working.join()
    assert states(database, sampling[1]) == ["done", "queued", "queued", "queued"]
    worker.run_job(sampling[1][1])
    assert states(database, sampling[1]) == ["done", "queued", "queued", "queued"]


@pytest.fixture
def pulsing(make_worker: MakeWorker, wake_ups: WakeUps) -> Iterator[Worker]:
    """A worker with its pulse, which beats every two seconds."""
    worker = make_worker()
    worker.start()
    yield worker
    worker.stop()


def test_a_lost_lease_is_noticed_when_it_ends_and_not_a_beat_later(
    database: Database, pulsing: Worker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    with database.begin() as connection:
        first = claim(connection, sampling[1][0], "dead", lease_seconds=2.6)  # between two beats
        expiry = connection.scalar(text("SELECT lease_expires_at FROM jobs WHERE id = :id"), {"id": first.id})
    wait_for(lambda: states(database, [first.id]) == ["queued"], 20)
    with database.begin() as connection:
        late = connection.execute(
            text("SELECT extract(epoch FROM available_at - :expiry) FROM jobs WHERE id = :id"),
            {"expiry": expiry, "id": first.id},
        ).scalar_one()
    assert 0 <= late < 1.0
    wait_for(lambda: (first.id, JobKind.SAMPLE) in wake_ups)


def test_a_worker_counts_as_busy_between_two_jobs(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]], wake_ups: WakeUps
) -> None:
    worker = make_worker(jobs_in_flight=1)
    worker.start()
    seen: list[str] = []

    def look(*_: object) -> None:
        worker.background.report()
        with database.begin() as connection:
            seen.append(str(connection.scalar(text("SELECT state FROM workers"))))

    worker.conductor = SimpleNamespace(after_job=look, sweep=lambda: 60.0)  # type: ignore[assignment]
    worker.run_job(sampling[1][0])
    assert seen == ["busy"] * 4
    worker.background.report()
    with database.begin() as connection:
        assert connection.scalar(text("SELECT state FROM workers")) == "idle"
    worker.stop()


def test_a_worker_may_have_the_process_id_of_the_one_before_it(
    database: Database, make_worker: MakeWorker
) -> None:
    """As in a container that is started again: same host, same name, same number."""
    with database.begin() as connection:
        workers.register(connection, "worker", socket.gethostname(), os.getpid(), "sample")
        workers.register(connection, "other", socket.gethostname(), os.getppid(), "sample")
    worker = make_worker()
    worker.start()
    worker.stop()
    with pytest.raises(ConflictError, match="a worker named 'other' is at work"):
        make_worker(name="other").start()
