"""A worker of all roles with room for one engine: real engines, a mixed queue, few changes, nothing lost."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

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
from hsstar.store.queue import wakeups
from hsstar.store.queue.by_engine import waiting_jobs
from hsstar.verifier import MathVerifier
from hsstar.workers.app import make_app
from hsstar.workers.engine_schedule import EngineScheduler
from hsstar.workers.runtime import Worker
from tests.deterministic import DeterministicSampler, MarkingTrainer, ReadingRewardModel, statement
from tests.store.drawing import WakeUps, execute, scalars
from tests.store.factory import (
    add_iteration,
    add_job,
    add_problems,
    add_run,
    change_jobs,
    claim,
    make_recipe,
    state_of,
)
from tests.store.noting import POLICY, REWARD_MODEL

JOB_SAMPLES = 16


class Census:
    """Builds engines and counts those that are in memory.

    Attributes:
        built: engines by kind.
        peak: the most that were there at once.
        can_sleep: whether the samplers sleep instead of being closed.
        real: whether the engines are those of PyTorch.
    """

    def __init__(self, *, real: bool = False, can_sleep: bool = False) -> None:
        self.real, self.can_sleep = real, can_sleep
        self.built: Counter[str] = Counter()
        self.present: set[Any] = set()
        self.peak = 0

    def enter(self, engine: Any) -> None:
        self.present.add(engine)
        self.peak = max(self.peak, len(self.present))

    def leave(self, engine: Any, end: Callable[[], None] = lambda: None) -> None:
        self.present.discard(engine)
        end()

    def engine(self, kind: str, engine: Any) -> Any:
        self.built[kind] += 1
        self.enter(engine)
        engine.close = partial(self.leave, engine, engine.close)
        if self.can_sleep:
            engine.sleep, engine.wake = partial(self.leave, engine), partial(self.enter, engine)
        return engine

    def sampler(self, location: str, recipe: Recipe) -> Any:
        build = partial(build_sampler, device="cpu") if self.real else DeterministicSampler
        return self.engine("sampler", build(location))

    def reward_model(self, location: str, recipe: Recipe) -> Any:
        real = build_reward_model(location, device="cpu") if self.real else None
        return self.engine("reward model", real or ReadingRewardModel())

    def trainer(self) -> Any:
        trainer: Any = build_trainer(device="cpu") if self.real else MarkingTrainer()
        self.built["trainer"] += 1
        inner = trainer.train

        def train(*arguments: Any) -> Any:
            self.enter(trainer)
            try:
                return inner(*arguments)
            finally:
                self.leave(trainer)

        trainer.train = train
        return trainer


def start_runs(database: Database, folder: Path, *names: str, real: bool = False) -> None:
    """Small runs of one iteration each over the same problems and models."""
    file = folder / "problems.jsonl"
    if real:
        family.write_problems(file, family.distinct_problems(12, 0, held_out=False))
    else:
        lines = [{"question": statement(number), "answer": f"#### {number}"} for number in range(12)]
        file.write_text("\n".join(map(json.dumps, lines)))
    import_problems(database, file, ProblemFormat.GSM8K, "train")
    recipe = make_recipe(
        problems={"dataset": "train", "per_iteration": 12},
        policy={"model": POLICY, "prompt": "bare"},
        reward={"model": REWARD_MODEL},
        sampling={"n": 8, "n_p": 4, "max_new_tokens": 112},
        difficulty={"tau_low": 0.2, "tau_high": 0.65},
        training={"learning_rate": 1e-4, "batch_size": 16, "maximum_tokens": 256},
    )
    for name in names:
        start_iterations(database, create_run(database, recipe, name), 1)


Work = Callable[..., Counter[str]]


@pytest.fixture
def work(database: Database, tmp_path: Path, wake_ups: WakeUps) -> Iterator[Work]:
    """Lets a worker do everything: it gets every wake-up, from each queue in turn. Returns jobs by kind."""
    engines: list[EnginePool] = []

    def work(census: Census, *, one_at_a_time: bool) -> Counter[str]:
        builders = census.sampler, census.reward_model, partial(MathVerifier, processes=1), census.trainer
        engines.append(EnginePool(*builders, one_at_a_time=one_at_a_time))
        settings = Settings(tmp_path, tmp_path, job_samples=JOB_SAMPLES)
        context = WorkerContext(database, engines[0], JOB_SAMPLES, tmp_path / "models")
        worker = Worker("all", list(JobKind), settings, context, make_app("memory://"))
        worker.conductor.sweep()
        worker.background.send_wakeups()
        while wake_ups:
            for kind in JobKind:
                if first := next((wake_up for wake_up in wake_ups if wake_up[1] is kind), None):
                    wake_ups.remove(first)
                    worker.run_job(first[0])
        rows = execute(database, "SELECT kind, state, error FROM jobs")
        assert {row.state for row in rows} == {"done"}, rows
        assert scalars(database, "SELECT DISTINCT state FROM iterations") == ["done"]
        return Counter(row.kind for row in rows)

    yield work
    engines[0].close()


@pytest.mark.parametrize(
    ("real", "can_sleep", "runs"),
    [(True, False, ["first"]), (False, False, ["a", "b"]), (False, True, ["a", "b"])],
)
def test_a_mixed_queue_is_done_with_one_engine_at_a_time_and_few_changes(
    database: Database, tmp_path: Path, work: Work, real: bool, can_sleep: bool, runs: list[str]
) -> None:
    census = Census(real=real, can_sleep=can_sleep)
    start_runs(database, tmp_path, *runs, real=real)
    done = work(census, one_at_a_time=True)
    assert done["sample"] >= 5 * len(runs)
    assert done["score"] >= 5 * len(runs)
    assert done["train"] == len(runs)
    assert census.peak == 1
    # pre-sampling, rewards, re-sampling, rewards; in turns with the wake-ups it would be one for each job
    assert census.built["sampler"] <= (1 if can_sleep else 4)
    assert census.built["reward model"] <= 4


def test_where_there_is_room_all_engines_stay_until_the_end(
    database: Database, tmp_path: Path, work: Work
) -> None:
    census = Census()
    start_runs(database, tmp_path, "first")
    work(census, one_at_a_time=False)
    assert census.built == {"sampler": 1, "reward model": 1, "trainer": 1}
    assert len(census.present) == 2


# --- claims -------------------------------------------------------------------------------------


def add_jobs(database: Database, *kinds: JobKind) -> list[int]:
    """Queued jobs of one round."""
    with database.begin() as connection:
        round_id = add_iteration(connection, add_run(connection), add_problems(connection, 1)).id
        return [add_job(connection, round_id, kind) for kind in kinds]


def claimed(scheduler: EngineScheduler, database: Database, named: int) -> int | None:
    job = scheduler.claim(database, named, "all", 60)
    return job.id if job else None


def test_queued_jobs_are_grouped_by_the_engine_that_they_need(connection: Connection) -> None:
    ids = add_problems(connection, 1)
    run, other = add_run(connection), add_run(connection, make_recipe(policy={"model": "M9"}))
    rounds = [add_iteration(connection, each, ids).id for each in (run, other)]
    samplings = [add_job(connection, round_id) for round_id in (*rounds, rounds[0])]
    scoring = add_job(connection, rounds[0], JobKind.SCORE)
    verification = add_job(connection, rounds[1], JobKind.VERIFY)
    training = add_job(connection, rounds[1], JobKind.TRAIN)
    claim(connection, samplings[0])
    change_jobs(connection, "available_at = now() + interval '1 minute'", training)
    change_jobs(connection, "available_at = now() - interval '9 seconds'", scoring)
    found = {jobs.engine: (jobs.job_id, jobs.seconds) for jobs in waiting_jobs(connection, list(JobKind))}
    assert found == {
        EngineKey(JobKind.SAMPLE, run.model_id): (samplings[2], 0.0),
        EngineKey(JobKind.SAMPLE, other.model_id): (samplings[1], 0.0),
        EngineKey(JobKind.SCORE, run.reward_model_id): (scoring, 9.0),
        EngineKey(JobKind.VERIFY): (verification, 0.0),
    }
    assert [each.engine.kind for each in waiting_jobs(connection, [JobKind.VERIFY])] == [JobKind.VERIFY]


def test_a_job_that_makes_room_stays_queued_and_gets_another_wake_up(database: Database) -> None:
    first, second, scoring = add_jobs(database, JobKind.SAMPLE, JobKind.SAMPLE, JobKind.SCORE)
    with database.begin() as connection:
        assert len(wakeups.claim_due_wakeups(connection)) == 3
    scheduler = EngineScheduler(list(JobKind), swap_seconds=60.0)
    assert [claimed(scheduler, database, named) for named in (first, scoring)] == [first, second]
    with database.begin() as connection:
        assert state_of(connection, scoring) == "queued"
        assert wakeups.claim_due_wakeups(connection) == [(scoring, JobKind.SCORE)]
    assert (
        claimed(scheduler, database, second) == scoring
    )  # a wake-up whose job has been taken means any work
    assert claimed(scheduler, database, scoring) is None


def test_jobs_that_have_waited_long_are_taken_before_the_engine_runs_out_of_work(database: Database) -> None:
    job_ids = add_jobs(database, *[JobKind.SAMPLE] * 4, *[JobKind.SCORE] * 2)
    execute(database, "UPDATE jobs SET available_at = now() - interval '10 seconds'")
    now = 0.0
    scheduler = EngineScheduler(list(JobKind), swap_seconds=5.0, clock=lambda: now)
    order = []
    for _ in job_ids:
        order.append(claimed(scheduler, database, job_ids[0]))
        now += 3.0
    assert order == [*job_ids[:2], *job_ids[4:], *job_ids[2:4]]
