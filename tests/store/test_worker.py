"""What a worker does with jobs whose engine fails."""

import signal
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import EngineDeadError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Sampler
from hsstar.settings import Settings
from hsstar.stages import score
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker
from tests.store.drawing import FragileSampler, add_sampling, hurry, make_context, responses
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
from tests.waiting import wait_for

MakeWorker = Callable[[Callable[[], Sampler]], Worker]


@pytest.fixture
def sampling(database: Database, tmp_path: Path) -> tuple[int, list[int]]:
    """A round of 16 samples in one job."""
    return add_sampling(database, "run", unread_checkpoint(tmp_path), 4, 4)


def unread_checkpoint(parent: Path) -> Path:
    """A folder with a fingerprint, which nothing is loaded from."""
    folder = parent / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return folder


@pytest.fixture
def make_worker(database: Database, tmp_path: Path) -> MakeWorker:
    def make(build: Callable[[], Sampler]) -> Worker:
        context = make_context(database, lambda folder, recipe: build())
        with database.begin() as connection:
            workers.register(connection, "worker", "host", 1, "sample")
        settings = Settings(tmp_path, tmp_path)
        return Worker("worker", [JobKind.SAMPLE], settings, context, make_app("memory://"))

    return make


def work(database: Database, worker: Worker) -> None:
    """Runs sampling jobs until none is queued, without their delays."""
    while True:
        queued = hurry(database)
        if not queued:
            return
        for job_id in queued:
            worker.run_job(job_id)


def jobs_of(database: Database) -> list[tuple[str, int, int]]:
    """State, attempts and size of the sampling jobs."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT state, attempts, sum(cardinality(slots))
                FROM jobs JOIN job_items ON job_id = jobs.id WHERE kind = 'sample'
                GROUP BY jobs.id ORDER BY jobs.id
            """)
        )
        return [(row[0], row[1], row[2]) for row in rows]


def note(database: Database) -> str | None:
    with database.begin() as connection:
        found: str | None = connection.scalar(text("SELECT note FROM worker_activity"))
        return found


def test_a_job_that_does_not_fit_is_split_until_it_does(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]]
) -> None:
    engine = FragileSampler(most=5)
    work(database, make_worker(lambda: engine))

    assert len(responses(database, sampling[0])) == 16
    assert sorted(engine.asked) == [4, 4, 4, 4, 8, 8, 16]
    assert jobs_of(database) == [("done", 1, 4)] * 4
    assert str(note(database)).endswith(": out of memory: 8 at once")


def test_a_single_sample_that_does_not_fit_fails_with_that_reason(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]]
) -> None:
    engine = FragileSampler(most=0)
    work(database, make_worker(lambda: engine))

    assert responses(database, sampling[0]) == {}
    assert jobs_of(database) == [("failed", 3, 1)] * 16
    assert len(engine.asked) == 15 + 16 * 3
    with database.begin() as connection:
        errors = set(connection.execute(text("SELECT error FROM jobs")).scalars())
    assert errors == {"out of memory: 1 at once"}


def test_a_dead_engine_is_closed_and_built_anew_and_its_job_goes_on(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]]
) -> None:
    engines = [FragileSampler(lives_for=6), FragileSampler()]
    left = list(engines)
    worker = make_worker(lambda: left.pop(0))
    worker.run_job(sampling[1][0])

    assert len(responses(database, sampling[0])) == 6
    assert [state for state, _, _ in jobs_of(database)] == ["queued"]
    assert note(database) == f"job {sampling[1][0]}: the engine has died"

    work(database, worker)
    assert len(responses(database, sampling[0])) == 16
    assert [engine.asked for engine in engines] == [[16], [10]]
    assert [engine.closed for engine in engines] == [True, False]


def test_an_engine_that_always_dies_ends_its_job(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]]
) -> None:
    work(database, make_worker(lambda: FragileSampler(lives_for=0)))

    assert jobs_of(database) == [("failed", 3, 1)] * 16


def test_a_worker_that_has_lost_its_gpu_ends(
    database: Database,
    make_worker: MakeWorker,
    sampling: tuple[int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        worker = make_worker(lambda: FragileSampler(lives_for=6))
        worker.run_job(sampling[1][0])
        with database.begin() as connection:
            connection.execute(text("UPDATE jobs SET available_at = now()"))
        worker.run_job(sampling[1][0])  # leaves it to others
    finally:
        signal.signal(signal.SIGTERM, before)

    assert received == [signal.SIGTERM]
    assert jobs_of(database) == [("queued", 1, 16)]
    assert "could not use its GPU any more" in str(note(database))


class DyingRewardModel:
    """A reward model that is dead before it has scored anything."""

    name = "dying 1.0"

    def __init__(self) -> None:
        self.closed = False

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        raise EngineDeadError("the engine has died")

    def close(self) -> None:
        self.closed = True


class GenerousRewardModel(DyingRewardModel):
    """A reward model that likes everything."""

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        return [StepRewards((1.0,) * len(request.steps)) for request in requests]


def test_a_dead_reward_model_is_closed_and_built_anew(database: Database, tmp_path: Path) -> None:
    folder = unread_checkpoint(tmp_path)
    with database.begin() as connection:
        problems = add_problems(connection, 2)
        names = str(folder), fingerprint(folder)
        policy = models.register_model(connection, "M0", *names)
        reward_model = models.register_reward_model(connection, "prm", names[0], "skywork", names[1])
        run = runs.create_run(connection, "run", make_recipe(), policy.id, reward_model.id)
        round_id = add_iteration(connection, run, problems).id
        add_samples(connection, round_id, {problem: {0: Drawn()} for problem in problems})
        job_id = add_job(connection, round_id, JobKind.SCORE, {problem: [0] for problem in problems})
        job = claim(connection, job_id)
    built = [DyingRewardModel(), GenerousRewardModel()]
    left = list(built)
    engines = EnginePool(lambda *_: FragileSampler(), lambda *_: left.pop(0), lambda: None, lambda: None)  # type: ignore[arg-type, return-value]
    context = WorkerContext(database, engines, 256, tmp_path)
    with pytest.raises(EngineDeadError):
        score.run(context, job)
    assert score.run(context, job) == problems
    assert [model.closed for model in built] == [True, False]
    with database.begin() as connection:
        assert state_of(connection, job_id) == "done"


def test_a_worker_that_hears_nothing_helps_itself(
    database: Database, make_worker: MakeWorker, sampling: tuple[int, list[int]]
) -> None:
    """No message is ever sent: as if the broker had lost them all, or this worker."""
    worker = make_worker(lambda: FragileSampler())
    worker.background.poll_without_broker()
    assert jobs_of(database) == [("queued", 0, 16)]  # engines cannot be built yet
    worker.background.start_polling()
    worker.background.poll_without_broker()
    assert jobs_of(database) == [("queued", 0, 16)]  # it has not waited long
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET available_at = now() - interval '1 minute'"))
    worker.background.poll_without_broker()
    wait_for(lambda: jobs_of(database) == [("done", 1, 16)])
    assert len(responses(database, sampling[0])) == 16


def test_a_worker_that_stops_keeps_the_lease_of_the_job_that_it_took_itself(
    database: Database, tmp_path: Path, sampling: tuple[int, list[int]]
) -> None:
    engine = FragileSampler(stalls_after=5)
    settings = Settings(tmp_path, tmp_path, lease_seconds=0.8)
    context = make_context(database, lambda folder, recipe: engine)
    worker = Worker("stopping", [JobKind.SAMPLE], settings, context, make_app("memory://"))
    with database.begin() as connection:
        connection.execute(text("UPDATE jobs SET available_at = now() - interval '1 minute'"))
    worker.start()
    worker.background.start_polling()
    wait_for(lambda: engine.asked)
    threading.Timer(2.5, engine.released.set).start()  # three times the lease
    worker.stop()
    with database.begin() as connection:  # its pool, which the worker has closed, opens again
        assert connection.execute(text("SELECT state, attempts FROM jobs WHERE kind = 'sample'")).all() == [
            ("done", 1)
        ]
    assert engine.asked == [16]
