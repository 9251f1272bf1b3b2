"""What a worker takes with and without messages, and what it does with jobs whose engine fails."""

import socket
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from kombu.exceptions import OperationalError

from hsstar.conductor import Conductor
from hsstar.domain.errors import CheckpointError, DatabaseError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.engines.sampling.contract import Sampler, SampleRequest, SamplingParameters
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups
from hsstar.store.queue.jobs import Job
from hsstar.workers import runtime
from hsstar.workers.app import make_app
from hsstar.workers.background import Background
from hsstar.workers.runtime import STAGES
from tests.store import drawing
from tests.store.drawing import (
    FragileSampler,
    Results,
    Sampling,
    WakeUps,
    add_jobs,
    add_sampling,
    execute,
    register,
    scalars,
    stalled,
)
from tests.store.factory import add_job, change_jobs, claim
from tests.store.threads import beside
from tests.waiting import wait_for


def make_due(database: Database, seconds: int) -> None:
    """Every job has waited for these seconds."""
    execute(database, f"UPDATE jobs SET available_at = now() - interval '{seconds} seconds'")


def due(database: Database) -> list[int]:
    with database.begin() as connection:
        return [job_id for job_id, _ in wakeups.claim_due_wakeups(connection)]


# --- messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("one_at_a_time", [False, True])
def test_one_message_is_enough_for_every_queued_job_and_the_named_one_comes_first(
    sampling: Sampling, one_at_a_time: bool
) -> None:
    first, second, named, last = sampling.job_ids
    sampling.worker(one_at_a_time=one_at_a_time).run_job(named)
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


def test_a_message_whose_job_was_taken_serves_all_of_its_kind_that_may_start(sampling: Sampling) -> None:
    with sampling.database.begin() as connection:
        held = claim(connection, sampling.job_ids[0], "another")
        kinds = set(JobKind) - {JobKind.SAMPLE}
        others = [add_job(connection, sampling.round_id, kind) for kind in kinds]
        change_jobs(connection, "available_at = now() + interval '1 minute'", sampling.job_ids[1])
    sampling.worker().run_job(held.id)
    assert sampling.states() == ["running", "queued", "done", "done"]
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

    job_ids = add_jobs(database, *[JobKind.VERIFY] * 3, JobKind.SCORE)  # which keeps the round where it is
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

    worker.conductor = Watched(worker.database, worker.settings)
    worker.run_job(sampling.job_ids[0])
    assert seen == [busy] * 4
    assert not worker.busy


# --- wake-ups -----------------------------------------------------------------------------------------


def test_wake_ups_that_nobody_takes_stay_due(sampling: Sampling, caplog: pytest.LogCaptureFixture) -> None:
    retries: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    app = make_app("test", f"amqp://127.0.0.1:{port}//")
    app.conf.broker_transport_options |= {"max_retries": 1, "interval_start": 0}
    app.conf.task_publish_retry_policy |= {"errback": lambda *failure: retries.append(failure)}
    Background(sampling.worker(), app, lambda: None).send_wakeups()
    assert "the broker does not accept wake-ups" in caplog.text
    assert retries == []  # the next sweep comes soon
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


def test_one_thread_of_a_worker_that_hears_nothing_takes_the_jobs(sampling: Sampling) -> None:
    """No message is ever sent: as if the broker had lost them all, or this worker."""
    engine = FragileSampler(stalls_after=0)
    worker = sampling.worker(lambda *_: engine, jobs_in_flight=3)
    background = worker.background
    drawing.register(sampling.database, worker)

    def poll() -> None:
        background.report()
        background.poll_without_broker()

    make_due(sampling.database, 60)
    poll()  # engines cannot be built yet
    background.start_polling()
    worker._active_slots = 3
    poll()  # it has as many jobs as it takes
    worker._active_slots = 0
    worker.leaving = True
    poll()
    worker.leaving = False
    make_due(sampling.database, 0)
    poll()  # no job has waited for long
    assert background._polling_thread is None
    make_due(sampling.database, 60)
    poll()
    first = background._polling_thread
    poll()
    assert background._polling_thread is first is not None
    engine.released.set()
    first.join()
    assert sampling.jobs() == [("done", 1, 16)] * 4
    assert len(sampling.responses()) == 64


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


# --- failures -----------------------------------------------------------------------------------------


@pytest.fixture
def one_job(database: Database, checkpoint: Path) -> Sampling:
    """16 samples in one job, and the row of a worker."""
    register(database, "worker")
    return Sampling(database, *add_sampling(database, "run", checkpoint, 4, 4))


def test_a_job_that_does_not_fit_is_split_until_it_does(one_job: Sampling) -> None:
    engine = FragileSampler(most=5)
    worker = one_job.worker(lambda *_: engine)
    worker.run_job(one_job.job_ids[0])
    assert one_job.jobs() == [("queued", 0, 8)] * 2
    one_job.work(worker)
    assert len(one_job.responses()) == 16
    assert (sorted(engine.asked), engine.closed) == ([4, 4, 4, 4, 8, 8, 16], False)
    assert one_job.jobs() == [("done", 1, 4)] * 4
    assert str(one_job.note()).endswith(": out of memory: 8 at once")


def test_a_single_sample_that_does_not_fit_fails_with_that_reason(one_job: Sampling) -> None:
    engine = FragileSampler(most=0)
    one_job.work(one_job.worker(lambda *_: engine))
    assert (one_job.jobs(), one_job.errors()) == ([("failed", 3, 1)] * 16, {"out of memory: 1 at once"})
    assert len(engine.asked) == 15 + 16 * 3


def test_a_dead_engine_is_closed_and_built_anew_and_its_job_goes_on(one_job: Sampling) -> None:
    engines = [FragileSampler(lives_for=6), FragileSampler()]
    left = list(engines)
    worker = one_job.worker(lambda *_: left.pop(0))
    worker.run_job(one_job.job_ids[0])
    assert (len(one_job.responses()), one_job.states()) == (6, ["queued"])
    assert one_job.note() == f"job {one_job.job_ids[0]}: the engine has died"
    one_job.work(worker)
    assert len(one_job.responses()) == 16
    assert [(engine.asked, engine.closed) for engine in engines] == [([16], True), ([10], False)]


@pytest.mark.parametrize(("attempts", "draws"), [(1, 1 + 2 + 4 + 8 + 16), (3, 3 + 2 + 4 + 8 + 16)])
def test_an_engine_that_always_dies_ends_its_job_and_halves_get_one_attempt_each(
    one_job: Sampling, attempts: int, draws: int
) -> None:
    built: list[FragileSampler] = []

    def build(*_: object) -> Sampler:
        built.append(FragileSampler(lives_for=0))
        return built[-1]

    one_job.work(one_job.worker(build, max_attempts=attempts))
    assert one_job.jobs() == [("failed", attempts, 1)] * 16
    assert len(built) == draws


def test_a_worker_that_has_lost_its_gpu_ends(
    one_job: Sampling, terminations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    worker = one_job.worker(lambda *_: FragileSampler(lives_for=6))
    worker.run_job(one_job.job_ids[0])
    for job_id in one_job.hurry():
        worker.run_job(job_id)  # leaves it to others
    assert (len(terminations), worker.exit_code) == (1, WorkerExit.FAILED)
    assert one_job.jobs() == [("queued", 1, 16)]
    assert "could not use its GPU any more" in str(one_job.note())


class ChokingSampler(FragileSampler):
    """Breaks on the first seed that it is ever asked for, before it has drawn anything."""

    bad_seed: int | None = None

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
        if self.bad_seed is None:
            self.bad_seed = requests[0].seed
        if self.bad_seed in [request.seed for request in requests]:
            raise ValueError("choked\non a token")
        return super().draw(requests, parameters)


def test_what_breaks_an_engine_ends_as_a_job_of_its_own_and_the_others_are_drawn(one_job: Sampling) -> None:
    engine = ChokingSampler()
    worker = one_job.worker(lambda *_: engine)
    one_job.work(worker)
    assert len(one_job.responses()) == 15
    done = [("done", 3, size) for size in (1, 2, 4, 8)]
    assert sorted(one_job.jobs()) == [*done, ("failed", 3, 1)]
    assert one_job.errors() == {None, "ValueError: choked on a token"}
    assert one_job.note() is None  # nothing is wrong with the engine
    assert (worker.jobs_done, engine.closed) == (len(done), False)


def test_a_failure_that_no_item_caused_ends_the_job_as_a_whole(one_job: Sampling) -> None:
    def build(*_: object) -> Sampler:
        raise CheckpointError("the weights are damaged")

    worker = one_job.worker(build)
    for attempt, state in ((1, "queued"), (2, "queued"), (3, "failed")):
        worker.run_job(one_job.hurry()[0])
        assert one_job.jobs() == [(state, attempt, 16)]
    assert one_job.errors() == {"the weights are damaged"}
    assert (one_job.note(), worker.jobs_done, worker.held) == (None, 0, {})


def test_what_a_worker_draws_without_its_lease_is_dropped_and_no_failure(one_job: Sampling) -> None:
    class Robbed(FragileSampler):
        def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
            execute(one_job.database, "UPDATE jobs SET lease_token = gen_random_uuid(), worker = 'thief'")
            return super().draw(requests, parameters)

    worker = one_job.worker(lambda *_: Robbed())
    worker.run_job(one_job.job_ids[0])
    assert (one_job.jobs(), one_job.errors(), one_job.responses()) == ([("running", 1, 16)], {None}, {})
    assert (worker.held, worker.jobs_done) == ({}, 0)


def test_a_job_that_loses_its_database_stays_running_until_its_lease_ends(
    one_job: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(context: WorkerContext, job: jobs.Job) -> list[int]:
        raise DatabaseError("cannot reach the database")

    monkeypatch.setitem(STAGES, JobKind.SAMPLE, lose)
    worker = one_job.worker()
    worker.run_job(one_job.job_ids[0])
    assert (one_job.jobs(), one_job.errors()) == ([("running", 1, 16)], {None})
    assert (worker.held, worker.busy) == ({}, False)


def test_a_worker_that_cannot_claim_takes_the_next_message_all_the_same(
    one_job: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = one_job.worker(jobs_in_flight=1)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "database", Database("postgresql://nobody@127.0.0.1:1/nowhere"))
        worker.run_job(one_job.job_ids[0])
    assert not worker.busy
    worker.run_job(one_job.job_ids[0])
    assert one_job.jobs() == [("done", 1, 16)]
