"""One wake-up is enough for all that waits: what a worker takes and hands over with and without messages."""

import socket

import pytest
from kombu.exceptions import OperationalError

from hsstar.conductor import Conductor
from hsstar.domain.lifecycle import JobKind
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups
from hsstar.store.queue.jobs import Job
from hsstar.workers import runtime
from hsstar.workers.app import make_app
from hsstar.workers.background import Background
from hsstar.workers.runtime import STAGES
from tests.store import drawing
from tests.store.drawing import FragileSampler, Sampling, WakeUps, execute, scalars, stalled
from tests.store.factory import add_iteration, add_job, add_problems, add_run, change_jobs, claim
from tests.store.threads import beside
from tests.waiting import wait_for


def make_due(database: Database, seconds: int) -> None:
    """Every job has waited for these seconds."""
    execute(database, f"UPDATE jobs SET available_at = now() - interval '{seconds} seconds'")


# --- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_one_message_is_enough_for_every_queued_job_and_the_named_one_comes_first(
    sampling: Sampling, one_at_a_time: bool
) -> None:
    first, second, named, last = sampling.job_ids
    sampling.worker(one_at_a_time=one_at_a_time).run_message(named)
    assert sampling.jobs() == [("done", 1, 16)] * 4
    assert len(sampling.responses()) == 64
    started = scalars(sampling.database, "SELECT id FROM jobs WHERE kind = 'sample' ORDER BY started_at")
    assert started == [named, first, second, last]


def test_after_a_while_a_worker_reads_from_the_broker_again(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_SECONDS_PER_MESSAGE", -1.0)
    sampling.worker().run_job(sampling.job_ids[0])
    assert sampling.states() == ["done", "queued", "queued", "queued"]


def test_a_message_that_names_no_job_is_ignored(sampling: Sampling) -> None:
    for job_id in (None, True, "1", 1.0, 0, -1, 1 << 63):
        sampling.worker().run_message(job_id)
        assert (job_id, sampling.states()) == (job_id, ["queued"] * 4)


def test_a_message_whose_job_was_taken_serves_another(sampling: Sampling) -> None:
    with sampling.database.begin() as connection:
        held = claim(connection, sampling.job_ids[0], "another")
    sampling.worker().run_message(held.id, "and", more="that is ignored")
    assert sampling.states() == ["running", "done", "done", "done"]


def test_jobs_of_other_kinds_and_jobs_that_have_to_wait_are_left_alone(sampling: Sampling) -> None:
    with sampling.database.begin() as connection:
        kinds = set(JobKind) - {JobKind.SAMPLE}
        others = [add_job(connection, sampling.round_id, kind) for kind in kinds]
        change_jobs(connection, "available_at = now() + interval '1 minute'", sampling.job_ids[1])
    sampling.worker().run_job(1 << 62)  # a job that does not exist
    assert sampling.states() == ["done", "queued", "done", "done"]
    assert sampling.states(*others) == ["queued"] * 3


def test_others_get_a_wake_up_for_what_a_job_has_added(sampling: Sampling, wake_ups: WakeUps) -> None:
    sampling.worker().run_job(sampling.job_ids[0])
    added = scalars(sampling.database, "SELECT id FROM jobs WHERE kind = 'verify' ORDER BY id")
    assert [job_id for job_id, kind in wake_ups if kind is JobKind.VERIFY] == added
    assert len(wake_ups) == len(set(wake_ups))
    assert due(sampling.database) == []


def test_a_job_that_adds_nothing_asks_nobody(
    database: Database, wake_ups: WakeUps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(context: WorkerContext, job: Job) -> list[int]:
        with context.database.begin() as connection:
            jobs.complete(connection, job)
        return []

    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        job_ids = [add_job(connection, round_id, JobKind.VERIFY) for _ in range(3)]
        add_job(connection, round_id, JobKind.SCORE)  # keeps the round where it is
    monkeypatch.setitem(STAGES, JobKind.VERIFY, nothing)
    drawing.make_worker(database, roles=[JobKind.VERIFY]).run_job(job_ids[0])
    assert scalars(database, "SELECT state FROM jobs ORDER BY id") == ["done", "done", "done", "queued"]
    assert wake_ups == []


def test_after_a_failure_the_other_jobs_are_left_to_their_messages(
    sampling: Sampling, wake_ups: WakeUps
) -> None:
    sampling.worker(lambda *_: FragileSampler(lives_for=0)).run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("queued", attempts, 16) for attempts in (1, 0, 0, 0)]
    assert [job_id for job_id, _ in wake_ups] == sampling.job_ids[1:]  # the first one has to wait a second


def test_a_worker_that_has_to_leave_ends_its_job_and_takes_no_other(sampling: Sampling) -> None:
    engine = FragileSampler(stalls_after=3)
    worker = sampling.worker(lambda *_: engine)
    with stalled(worker, engine, sampling.job_ids[0]):
        worker.leave()
    assert sampling.states() == ["done", "queued", "queued", "queued"]
    worker.run_job(sampling.job_ids[1])
    assert sampling.states() == ["done", "queued", "queued", "queued"]


@pytest.mark.parametrize(("at_once", "busy"), [(1, True), (2, False)])
def test_a_worker_counts_as_busy_between_two_jobs(sampling: Sampling, at_once: int, busy: bool) -> None:
    worker = sampling.worker(jobs_in_flight=at_once)
    seen: list[bool] = []

    class Watched(Conductor):
        def after_job(self, job: Job, problem_ids: list[int], following: Job | None = None) -> bool:
            seen.append(worker.busy)
            return super().after_job(job, problem_ids, following)

    worker.conductor = Watched(worker.database, drawing.JOB_SAMPLES, 3)
    worker.run_job(sampling.job_ids[0])
    assert seen == [busy] * 4
    assert not worker.busy


# --- wake-ups -----------------------------------------------------------------------------------------


def due(database: Database) -> list[int]:
    with database.begin() as connection:
        return [job_id for job_id, _ in wakeups.claim_due_wakeups(connection)]


def test_wake_ups_that_nobody_takes_stay_due(sampling: Sampling, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = make_app(f"amqp://127.0.0.1:{port}//")
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}
    Background(sampling.worker(), app, lambda: None).send_wakeups()
    assert "the broker does not accept wake-ups" in caplog.text
    assert due(sampling.database) == sampling.job_ids


@pytest.mark.parametrize("error", [OperationalError("gone"), OSError("reset")])
def test_after_a_refused_wake_up_it_and_the_rest_stay_due(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    sent: list[int] = []

    def send(app: object, job_id: int, kind: JobKind) -> None:
        if len(sent) == 1:
            raise error
        sent.append(job_id)

    monkeypatch.setattr("hsstar.workers.background.send_wake_up", send)
    sampling.worker().background.send_wakeups()
    assert (sent, due(sampling.database)) == (sampling.job_ids[:1], sampling.job_ids[1:])


# --- no message ---------------------------------------------------------------------------------------


def test_a_worker_that_hears_nothing_helps_itself(sampling: Sampling) -> None:
    """No message is ever sent: as if the broker had lost them all, or this worker."""
    worker = sampling.worker(jobs_in_flight=1)
    poll = worker.background.poll_without_broker
    make_due(sampling.database, 60)
    poll()  # engines cannot be built yet
    worker.background.start_polling()
    worker._active_slots = 1
    poll()  # it has as many jobs as it takes
    worker._active_slots = 0
    worker.leaving = True
    poll()
    worker.leaving = False
    make_due(sampling.database, 0)
    poll()  # no job has waited for long
    assert worker.background._polling_thread is None
    make_due(sampling.database, 60)
    poll()
    wait_for(lambda: sampling.jobs() == [("done", 1, 16)] * 4)
    assert len(sampling.responses()) == 64


def test_jobs_without_a_message_are_taken_by_one_thread(sampling: Sampling) -> None:
    engine = FragileSampler(stalls_after=0)
    worker = sampling.worker(lambda *_: engine, jobs_in_flight=3)
    worker.background.start_polling()
    make_due(sampling.database, 60)
    worker.background.poll_without_broker()
    first = worker.background._polling_thread
    worker.background.poll_without_broker()
    assert worker.background._polling_thread is first is not None
    engine.released.set()
    first.join()
    assert sampling.jobs() == [("done", 1, 16)] * 4


def test_a_worker_that_stops_keeps_the_lease_of_the_job_that_it_took_itself(sampling: Sampling) -> None:
    engine = FragileSampler(stalls_after=5)
    worker = sampling.worker(lambda *_: engine, lease_seconds=0.8)
    make_due(sampling.database, 60)
    worker.start()
    worker.background.start_polling()
    wait_for(lambda: engine.asked)
    watcher = Database(sampling.database.url)
    leases: set[object] = set()

    def renewed_often() -> bool:
        leases.update(scalars(watcher, "SELECT max(lease_expires_at) FROM jobs"))
        return len(leases) > 6

    with beside(worker.stop):
        try:
            wait_for(renewed_often)
        finally:
            engine.released.set()
    watcher.close()
    assert sampling.jobs() == [("done", 1, 16), *[("queued", 0, 16)] * 3]
    assert engine.asked == [16]
