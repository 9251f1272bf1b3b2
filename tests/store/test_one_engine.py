"""A worker of all roles with room for one engine: real engines, a mixed queue, few changes, nothing lost."""

import json
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, text

from hsstar.commands.problems import import_problems
from hsstar.commands.runs import create_run, start_iterations
from hsstar.demo import family
from hsstar.domain.engine_schedule import EngineKey
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.problems import ProblemFormat
from hsstar.engines.registry import build_reward_model, build_sampler, build_trainer
from hsstar.recipe.recipe import Recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.store.queue import wakeups, workers
from hsstar.store.queue.by_engine import waiting_jobs
from hsstar.verifier import MathVerifier
from hsstar.workers.app import make_app
from hsstar.workers.engine_schedule import EngineScheduler
from hsstar.workers.runtime import Worker
from tests.deterministic import DeterministicSampler, MarkingTrainer, ReadingRewardModel, statement
from tests.store.factory import add_iteration, add_job, add_problems, add_run, claim, make_recipe, state_of

JOB_SAMPLES = 16


class Census:
    """Builds engines and counts those that are in memory.

    Attributes:
        built: engines by kind.
        peak: the most that were there at once.
        can_sleep: whether the samplers sleep instead of being closed.
        real: whether the engines are those of PyTorch.
    """

    def __init__(self) -> None:
        self.built: Counter[str] = Counter()
        self.present: set[Any] = set()
        self.peak = 0
        self.can_sleep = self.real = False

    def engine(self, kind: str, build: Callable[..., Any], location: str) -> Any:
        engine = build(location)
        self.built[kind] += 1
        self.enter(engine)
        close = engine.close

        def leave() -> None:
            self.present.discard(engine)
            close()

        engine.close = leave
        if self.can_sleep:
            engine.sleep = lambda: self.present.discard(engine)
            engine.wake = lambda: self.enter(engine)
        return engine

    def enter(self, engine: Any) -> None:
        self.present.add(engine)
        self.peak = max(self.peak, len(self.present))

    def sampler(self, location: str, recipe: Recipe) -> Any:
        build = partial(build_sampler, device="cpu") if self.real else DeterministicSampler
        return self.engine("sampler", build, location)

    def reward_model(self, location: str, recipe: Recipe) -> Any:
        if self.real:
            return self.engine("reward model", partial(build_reward_model, device="cpu"), location)
        return self.engine("reward model", lambda _: ReadingRewardModel(), location)

    def trainer(self) -> Any:
        trainer: Any = build_trainer(device="cpu") if self.real else MarkingTrainer()
        self.built["trainer"] += 1
        inner = trainer.train

        def train(*arguments: Any) -> Any:
            self.enter(trainer)
            try:
                return inner(*arguments)
            finally:
                self.present.discard(trainer)

        trainer.train = train
        return trainer


@pytest.fixture
def census() -> Census:
    return Census()


@pytest.fixture
def make_worker(database: Database, tmp_path: Path, census: Census) -> Callable[..., Worker]:
    def make(*, one_at_a_time: bool) -> Worker:
        engines = EnginePool(
            census.sampler,
            census.reward_model,
            partial(MathVerifier, processes=1),
            census.trainer,
            one_at_a_time=one_at_a_time,
        )
        settings = Settings(tmp_path, tmp_path, job_samples=JOB_SAMPLES)
        context = WorkerContext(database, engines, JOB_SAMPLES, tmp_path / "models")
        return Worker("all", list(JobKind), settings, context, make_app("memory://"))

    return make


def start_runs(database: Database, folder: Path, *names: str, real: bool = False) -> None:
    """Small runs of one iteration each over the same problems and models."""
    file = folder / "problems.jsonl"
    if real:
        family.write_problems(file, family.distinct_problems(12, 0, held_out=False))
    else:
        lines = [{"question": statement(number), "answer": f"#### {number}"} for number in range(12)]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    import_problems(database, file, ProblemFormat.GSM8K, "train")
    for name in names:
        recipe = make_recipe(
            problems={"dataset": "train", "per_iteration": 12},
            policy={"model": "builtin:demo-policy", "prompt": "bare"},
            reward={"model": "builtin:demo-prm"},
            sampling={"n": 8, "n_p": 4, "max_new_tokens": 112},
            difficulty={"tau_low": 0.2, "tau_high": 0.65},
            training={"learning_rate": 1e-4, "batch_size": 16, "maximum_tokens": 256},
        )
        start_iterations(database, create_run(database, recipe, name), 1)


@pytest.fixture
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> dict[JobKind, list[int]]:
    """The messages under way, by queue."""
    queues: dict[JobKind, list[int]] = {kind: [] for kind in JobKind}
    monkeypatch.setattr(
        "hsstar.workers.background.send_wake_up", lambda app, job_id, kind: queues[kind].append(job_id)
    )
    return queues


def work(database: Database, worker: Worker, wake_ups: dict[JobKind, list[int]]) -> Counter[str]:
    """Passes on every wake-up, from each queue in turn; jobs done by kind."""
    worker.conductor.sweep()
    worker.background.send_wakeups()
    while any(wake_ups.values()):
        for queue in wake_ups.values():
            if queue:
                worker.run_job(queue.pop(0))
    with database.begin() as connection:
        rows = connection.execute(text("SELECT kind, state, error FROM jobs")).all()
        states = connection.execute(text("SELECT DISTINCT state FROM iterations")).scalars().all()
    assert {row.state for row in rows} == {"done"}, rows
    assert states == ["done"]
    return Counter(row.kind for row in rows)


@pytest.mark.parametrize(
    ("real", "can_sleep", "runs"),
    [(True, False, ["first"]), (False, False, ["a", "b"]), (False, True, ["a", "b"])],
)
def test_a_mixed_queue_is_done_with_one_engine_at_a_time_and_few_changes(
    database: Database,
    tmp_path: Path,
    make_worker: Callable[..., Worker],
    census: Census,
    wake_ups: dict[JobKind, list[int]],
    real: bool,
    can_sleep: bool,
    runs: list[str],
) -> None:
    census.real, census.can_sleep = real, can_sleep
    start_runs(database, tmp_path, *runs, real=real)
    worker = make_worker(one_at_a_time=True)
    done = work(database, worker, wake_ups)
    worker._context.engines.close()

    assert done["sample"] >= 5 * len(runs)
    assert done["score"] >= 5 * len(runs)
    assert done["train"] == len(runs)
    assert census.peak == 1
    assert not census.present
    # pre-sampling, rewards, re-sampling, rewards; in turns with the wake-ups it would be one for each job
    assert census.built["sampler"] <= (1 if can_sleep else 4)
    assert census.built["reward model"] <= 4


def test_where_there_is_room_all_engines_stay(
    database: Database,
    tmp_path: Path,
    make_worker: Callable[..., Worker],
    census: Census,
    wake_ups: dict[JobKind, list[int]],
) -> None:
    start_runs(database, tmp_path, "first")
    worker = make_worker(one_at_a_time=False)
    work(database, worker, wake_ups)
    assert census.built == {"sampler": 1, "reward model": 1, "trainer": 1}
    assert len(census.present) == 2
    worker._context.engines.close()


# --- claims -------------------------------------------------------------------------------------


def test_queued_jobs_are_grouped_by_the_engine_that_they_need(connection: Connection) -> None:
    ids = add_problems(connection, 1)
    run, other = add_run(connection), add_run(connection, make_recipe(policy={"model": "M9"}))
    rounds = [add_iteration(connection, each, ids).id for each in (run, other)]
    samplings = [add_job(connection, round_id) for round_id in (*rounds, rounds[0])]
    scoring = add_job(connection, rounds[0], JobKind.SCORE)
    verification = add_job(connection, rounds[1], JobKind.VERIFY)
    training = add_job(connection, rounds[1], JobKind.TRAIN)
    claim(connection, samplings[0])
    connection.execute(
        text("UPDATE jobs SET available_at = now() + interval '1 minute' WHERE id = :id"), {"id": training}
    )
    connection.execute(
        text("UPDATE jobs SET available_at = now() - interval '9 seconds' WHERE id = :id"), {"id": scoring}
    )
    found = {jobs.engine: (jobs.job_id, jobs.seconds) for jobs in waiting_jobs(connection, list(JobKind))}
    assert found == {
        EngineKey(JobKind.SAMPLE, run.model_id): (samplings[2], 0.0),
        EngineKey(JobKind.SAMPLE, other.model_id): (samplings[1], 0.0),
        EngineKey(JobKind.SCORE, run.reward_model_id): (scoring, 9.0),
        EngineKey(JobKind.VERIFY): (verification, 0.0),
    }
    assert [each.engine.kind for each in waiting_jobs(connection, [JobKind.VERIFY])] == [JobKind.VERIFY]


def test_a_job_that_makes_room_stays_queued_and_gets_another_wake_up(database: Database) -> None:
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        first, second = (add_job(connection, round_id) for _ in range(2))
        scoring = add_job(connection, round_id, JobKind.SCORE)
        assert len(wakeups.claim_due_wakeups(connection)) == 3
    scheduler = EngineScheduler(list(JobKind), swap_seconds=60.0)
    taken = [scheduler.claim(database, named, "all", 60) for named in (first, scoring)]
    assert [job and job.id for job in taken] == [first, second]
    with database.begin() as connection:
        assert state_of(connection, scoring) == "queued"
        assert wakeups.claim_due_wakeups(connection) == [(scoring, JobKind.SCORE)]
    late = scheduler.claim(database, second, "all", 60)  # a wake-up whose job has been taken means any work
    assert late is not None
    assert late.id == scoring
    assert scheduler.claim(database, scoring, "all", 60) is None


def test_a_worker_that_was_asked_to_stop_is_chosen_no_job(database: Database) -> None:
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        job_id = add_job(connection, round_id)
        workers.register(connection, "all", "host", 1, "sample")
        workers.request_stop(connection, ["all"], [], everyone=False)
    assert EngineScheduler(list(JobKind), swap_seconds=60.0).claim(database, job_id, "all", 60) is None


def test_jobs_that_have_waited_long_are_taken_before_the_engine_runs_out_of_work(database: Database) -> None:
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        samplings = [add_job(connection, round_id) for _ in range(4)]
        scorings = [add_job(connection, round_id, JobKind.SCORE) for _ in range(2)]
        connection.execute(text("UPDATE jobs SET available_at = now() - interval '10 seconds'"))
    now = 0.0
    scheduler = EngineScheduler(list(JobKind), swap_seconds=5.0, clock=lambda: now)
    order = []
    for _ in range(6):
        job = scheduler.claim(database, samplings[0], "all", 60)
        assert job is not None
        order.append(job.id)
        now += 3.0
    assert order == [*samplings[:2], *scorings, *samplings[2:]]
