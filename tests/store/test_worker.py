"""What a worker does with jobs whose engine fails."""

import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import CheckpointError, DatabaseError, EngineDeadError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Sampler, SampleRequest, SamplingParameters
from hsstar.stages import score
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.store.queue import jobs, workers
from hsstar.workers.runtime import STAGES, Worker
from tests.deterministic import ReadingRewardModel
from tests.store.drawing import (
    FragileSampler,
    Results,
    add_sampling,
    hurry,
    make_worker,
    responses,
    sampling_jobs,
    unread_checkpoint,
    work,
    worker_row,
)
from tests.store.factory import (
    Drawn,
    add_iteration,
    add_job,
    add_problems,
    add_samples,
    claim,
    make_recipe,
    state_of,
)

MakeWorker = Callable[..., Worker]
Sampling = tuple[int, list[int]]


@pytest.fixture
def sampling(database: Database, tmp_path: Path) -> Sampling:
    """A round of 16 samples in one job."""
    return add_sampling(database, "run", unread_checkpoint(tmp_path / "policy"), 4, 4)


@pytest.fixture
def make(database: Database) -> MakeWorker:
    def registered(build: Callable[[], Sampler], **settings: Any) -> Worker:
        with database.begin() as connection:
            workers.register(connection, "worker", "host", 1, "sample")
        return make_worker(database, lambda folder, recipe: build(), **settings)

    return registered


def errors(database: Database) -> set[str | None]:
    with database.begin() as connection:
        return set(connection.execute(text("SELECT error FROM jobs WHERE kind = 'sample'")).scalars())


def seconds_until_due(database: Database) -> list[float]:
    """How long the sampling jobs still wait, in order."""
    query = "SELECT extract(epoch FROM available_at - now()) FROM jobs WHERE kind = 'sample' ORDER BY id"
    with database.begin() as connection:
        return [float(seconds) for seconds in connection.execute(text(query)).scalars()]


# --- the engine's memory and life -------------------------------------------------------------------


def test_a_job_that_does_not_fit_is_split_until_it_does(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    engine = FragileSampler(most=5)
    worker = make(lambda: engine)
    worker.run_job(sampling[1][0])
    assert sampling_jobs(database) == [("queued", 0, 8)] * 2
    assert max(seconds_until_due(database)) <= 0  # the halves need not wait
    work(database, worker)

    assert len(responses(database, sampling[0])) == 16
    assert sorted(engine.asked) == [4, 4, 4, 4, 8, 8, 16]
    assert sampling_jobs(database) == [("done", 1, 4)] * 4
    assert worker_row(database)["note"].endswith(": out of memory: 8 at once")
    assert not engine.closed


def test_a_single_sample_that_does_not_fit_fails_with_that_reason(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    engine = FragileSampler(most=0)
    work(database, make(lambda: engine))

    assert responses(database, sampling[0]) == {}
    assert sampling_jobs(database) == [("failed", 3, 1)] * 16
    assert len(engine.asked) == 15 + 16 * 3
    assert errors(database) == {"out of memory: 1 at once"}


def test_a_dead_engine_is_closed_and_built_anew_and_its_job_goes_on(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    engines = [FragileSampler(lives_for=6), FragileSampler()]
    left = list(engines)
    worker = make(lambda: left.pop(0))
    worker.run_job(sampling[1][0])

    assert len(responses(database, sampling[0])) == 6
    assert [state for state, _, _ in sampling_jobs(database)] == ["queued"]
    assert worker_row(database)["note"] == f"job {sampling[1][0]}: the engine has died"

    work(database, worker)
    assert len(responses(database, sampling[0])) == 16
    assert [engine.asked for engine in engines] == [[16], [10]]
    assert [engine.closed for engine in engines] == [True, False]


@pytest.mark.parametrize(("attempts", "draws"), [(1, 1 + 2 + 4 + 8 + 16), (3, 3 + 2 + 4 + 8 + 16)])
def test_an_engine_that_always_dies_ends_its_job_and_halves_get_one_attempt_each(
    database: Database, make: MakeWorker, sampling: Sampling, attempts: int, draws: int
) -> None:
    built: list[FragileSampler] = []

    def build() -> Sampler:
        built.append(FragileSampler(lives_for=0))
        return built[-1]

    work(database, make(build, max_attempts=attempts))
    assert sampling_jobs(database) == [("failed", attempts, 1)] * 16
    assert len(built) == draws


def test_a_worker_that_has_lost_its_gpu_ends(
    database: Database, make: MakeWorker, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        worker = make(lambda: FragileSampler(lives_for=6))
        worker.run_job(sampling[1][0])
        hurry(database)
        worker.run_job(sampling[1][0])  # leaves it to others
    finally:
        signal.signal(signal.SIGTERM, before)

    assert received == [signal.SIGTERM]
    assert worker.exit_code is WorkerExit.FAILED
    assert sampling_jobs(database) == [("queued", 1, 16)]
    assert "could not use its GPU any more" in worker_row(database)["note"]


class MortalRewardModel(ReadingRewardModel):
    """Is dead before it has scored anything, or not."""

    def __init__(self, *, dead: bool) -> None:
        super().__init__()
        self.dead, self.closed = dead, False

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        if self.dead:
            raise EngineDeadError("the engine has died")
        return super().score(requests)

    def close(self) -> None:
        self.closed = True


def test_a_dead_reward_model_is_closed_and_built_anew(database: Database, tmp_path: Path) -> None:
    folder = unread_checkpoint(tmp_path / "policy")
    with database.begin() as connection:
        problems = add_problems(connection, 2)
        names = str(folder), fingerprint(folder)
        policy = models.register_model(connection, "M0", *names)
        reward_model = models.register_reward_model(connection, "prm", names[0], "skywork", names[1])
        run = runs.create_run(connection, "run", make_recipe(), policy.id, reward_model.id)
        round_id = add_iteration(connection, run, problems).id
        add_samples(
            connection, round_id, {problem: {0: Drawn(response="quality 0.5")} for problem in problems}
        )
        job_id = add_job(connection, round_id, JobKind.SCORE, {problem: [0] for problem in problems})
        job = claim(connection, job_id)
    built = [MortalRewardModel(dead=True), MortalRewardModel(dead=False)]
    left = list(built)
    engines = EnginePool(lambda *_: FragileSampler(), lambda *_: left.pop(0), lambda: None, lambda: None)  # type: ignore[arg-type, return-value]
    context = WorkerContext(database, engines, 256, tmp_path)
    with pytest.raises(EngineDeadError):
        score.run(context, job)
    assert score.run(context, job) == problems
    assert [model.closed for model in built] == [True, False]
    with database.begin() as connection:
        assert state_of(connection, job_id) == "done"


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


def test_what_breaks_an_engine_ends_as_a_job_of_its_own_and_the_others_are_drawn(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    engine = ChokingSampler()
    worker = make(lambda: engine)
    work(database, worker)

    assert len(responses(database, sampling[0])) == 15
    sizes = [("done", 3, 1), ("done", 3, 2), ("done", 3, 4), ("done", 3, 8)]
    assert sorted(sampling_jobs(database)) == [*sizes, ("failed", 3, 1)]
    assert errors(database) == {None, "ValueError: choked on a token"}
    assert worker_row(database)["note"] is None  # nothing is wrong with the engine
    assert worker.jobs_done == len(sizes)
    assert not engine.closed


def test_a_failure_that_no_item_caused_ends_the_job_as_a_whole_after_growing_delays(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    def build() -> Sampler:
        raise CheckpointError("the weights are damaged")

    worker = make(build)
    for attempt, delay in ((1, 1), (2, 4)):
        hurry(database)
        worker.run_job(sampling[1][0])
        assert sampling_jobs(database) == [("queued", attempt, 16)]
        assert delay - 0.9 < seconds_until_due(database)[0] <= delay
    hurry(database)
    worker.run_job(sampling[1][0])
    assert sampling_jobs(database) == [("failed", 3, 16)]
    assert errors(database) == {"the weights are damaged"}
    assert worker_row(database)["note"] is None
    assert worker.jobs_done == 0
    assert worker.held == {}


def test_what_a_worker_without_its_lease_has_drawn_is_dropped_and_counts_as_no_failure(
    database: Database, make: MakeWorker, sampling: Sampling
) -> None:
    def steal() -> None:
        with database.begin() as connection:
            connection.execute(text("UPDATE jobs SET lease_token = gen_random_uuid(), worker = 'thief'"))

    class Robbed(FragileSampler):
        def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
            steal()
            return super().draw(requests, parameters)

    worker = make(Robbed)
    worker.run_job(sampling[1][0])
    assert sampling_jobs(database) == [("running", 1, 16)]
    assert errors(database) == {None}
    assert responses(database, sampling[0]) == {}
    assert (worker.held, worker.jobs_done) == ({}, 0)


def test_a_job_that_loses_its_database_stays_running_until_its_lease_ends(
    database: Database, make: MakeWorker, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(context: WorkerContext, job: jobs.Job) -> list[int]:
        raise DatabaseError("cannot reach the database")

    monkeypatch.setitem(STAGES, JobKind.SAMPLE, lose)
    worker = make(FragileSampler)
    worker.run_job(sampling[1][0])
    assert sampling_jobs(database) == [("running", 1, 16)]
    assert errors(database) == {None}
    assert (worker.held, worker.busy) == ({}, False)


def test_a_worker_that_cannot_claim_takes_the_next_message_all_the_same(
    make: MakeWorker, database: Database, sampling: Sampling, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make(FragileSampler, jobs_in_flight=1)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "database", Database("postgresql://nobody@127.0.0.1:1/nowhere"))
        worker.run_job(sampling[1][0])
    assert not worker.busy
    worker.run_job(sampling[1][0])
    assert sampling_jobs(database) == [("done", 1, 16)]
