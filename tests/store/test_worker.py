"""What a worker does with jobs whose engine fails."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from hsstar.domain.errors import CheckpointError, DatabaseError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.engines.sampling.contract import Sampler, SampleRequest, SamplingParameters
from hsstar.stages.context import WorkerContext
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.workers.runtime import STAGES
from tests.store.drawing import FragileSampler, Results, Sampling, add_sampling, execute, register


@pytest.fixture
def sampling(database: Database, checkpoint: Path) -> Sampling:
    """16 samples in one job, and the row of a worker."""
    register(database, "worker")
    return Sampling(database, *add_sampling(database, "run", checkpoint, 4, 4))


# --- the engine's memory and life -------------------------------------------------------------------


def test_a_job_that_does_not_fit_is_split_until_it_does(sampling: Sampling) -> None:
    engine = FragileSampler(most=5)
    worker = sampling.worker(lambda *_: engine)
    worker.run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("queued", 0, 8)] * 2
    sampling.work(worker)
    assert len(sampling.responses()) == 16
    assert sorted(engine.asked) == [4, 4, 4, 4, 8, 8, 16]
    assert sampling.jobs() == [("done", 1, 4)] * 4
    assert str(sampling.note()).endswith(": out of memory: 8 at once")
    assert not engine.closed


def test_a_single_sample_that_does_not_fit_fails_with_that_reason(sampling: Sampling) -> None:
    engine = FragileSampler(most=0)
    sampling.work(sampling.worker(lambda *_: engine))
    assert sampling.responses() == {}
    assert sampling.jobs() == [("failed", 3, 1)] * 16
    assert len(engine.asked) == 15 + 16 * 3
    assert sampling.errors() == {"out of memory: 1 at once"}


def test_a_dead_engine_is_closed_and_built_anew_and_its_job_goes_on(sampling: Sampling) -> None:
    engines = [FragileSampler(lives_for=6), FragileSampler()]
    left = list(engines)
    worker = sampling.worker(lambda *_: left.pop(0))
    worker.run_job(sampling.job_ids[0])
    assert len(sampling.responses()) == 6
    assert sampling.states() == ["queued"]
    assert sampling.note() == f"job {sampling.job_ids[0]}: the engine has died"
    sampling.work(worker)
    assert len(sampling.responses()) == 16
    assert [(engine.asked, engine.closed) for engine in engines] == [([16], True), ([10], False)]


@pytest.mark.parametrize(("attempts", "draws"), [(1, 1 + 2 + 4 + 8 + 16), (3, 3 + 2 + 4 + 8 + 16)])
def test_an_engine_that_always_dies_ends_its_job_and_halves_get_one_attempt_each(
    sampling: Sampling, attempts: int, draws: int
) -> None:
    built: list[FragileSampler] = []

    def build(*_: object) -> Sampler:
        built.append(FragileSampler(lives_for=0))
        return built[-1]

    sampling.work(sampling.worker(build, max_attempts=attempts))
    assert sampling.jobs() == [("failed", attempts, 1)] * 16
    assert len(built) == draws


def test_a_worker_that_has_lost_its_gpu_ends(
    sampling: Sampling, terminations: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    worker = sampling.worker(lambda *_: FragileSampler(lives_for=6))
    worker.run_job(sampling.job_ids[0])
    for job_id in sampling.hurry():
        worker.run_job(job_id)  # leaves it to others
    assert len(terminations) == 1
    assert worker.exit_code is WorkerExit.FAILED
    assert sampling.jobs() == [("queued", 1, 16)]
    assert "could not use its GPU any more" in str(sampling.note())


# --- other failures ---------------------------------------------------------------------------------


class ChokingSampler(FragileSampler):
    """Breaks on the first seed that it is ever asked for, before it has drawn anything."""

    bad_seed: int | None = None

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
        if self.bad_seed is None:
            self.bad_seed = requests[0].seed
        if self.bad_seed in [request.seed for request in requests]:
            raise ValueError("choked\non a token")
        return super().draw(requests, parameters)


def test_what_breaks_an_engine_ends_as_a_job_of_its_own_and_the_others_are_drawn(sampling: Sampling) -> None:
    engine = ChokingSampler()
    worker = sampling.worker(lambda *_: engine)
    sampling.work(worker)
    assert len(sampling.responses()) == 15
    done = [("done", 3, size) for size in (1, 2, 4, 8)]
    assert sorted(sampling.jobs()) == [*done, ("failed", 3, 1)]
    assert sampling.errors() == {None, "ValueError: choked on a token"}
    assert sampling.note() is None  # nothing is wrong with the engine
    assert (worker.jobs_done, engine.closed) == (len(done), False)


def test_a_failure_that_no_item_caused_ends_the_job_as_a_whole(sampling: Sampling) -> None:
    def build(*_: object) -> Sampler:
        raise CheckpointError("the weights are damaged")

    worker = sampling.worker(build)
    for attempt, state in ((1, "queued"), (2, "queued"), (3, "failed")):
        worker.run_job(sampling.hurry()[0])
        assert sampling.jobs() == [(state, attempt, 16)]
    assert sampling.errors() == {"the weights are damaged"}
    assert (sampling.note(), worker.jobs_done, worker.held) == (None, 0, {})


def test_what_a_worker_without_its_lease_has_drawn_is_dropped_and_counts_as_no_failure(
    sampling: Sampling,
) -> None:
    class Robbed(FragileSampler):
        def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
            execute(sampling.database, "UPDATE jobs SET lease_token = gen_random_uuid(), worker = 'thief'")
            return super().draw(requests, parameters)

    worker = sampling.worker(lambda *_: Robbed())
    worker.run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("running", 1, 16)]
    assert (sampling.errors(), sampling.responses()) == ({None}, {})
    assert (worker.held, worker.jobs_done) == ({}, 0)


def test_a_job_that_loses_its_database_stays_running_until_its_lease_ends(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(context: WorkerContext, job: jobs.Job) -> list[int]:
        raise DatabaseError("cannot reach the database")

    monkeypatch.setitem(STAGES, JobKind.SAMPLE, lose)
    worker = sampling.worker()
    worker.run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("running", 1, 16)]
    assert sampling.errors() == {None}
    assert (worker.held, worker.busy) == ({}, False)


def test_a_worker_that_cannot_claim_takes_the_next_message_all_the_same(
    sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = sampling.worker(jobs_in_flight=1)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "database", Database("postgresql://nobody@127.0.0.1:1/nowhere"))
        worker.run_job(sampling.job_ids[0])
    assert not worker.busy
    worker.run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("done", 1, 16)]
