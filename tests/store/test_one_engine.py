"""The engines of a worker: those of recipe and settings; with room for one, few changes and nothing lost."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.engine_schedule import EngineKey
from hsstar.domain.errors import BadInputError, CheckpointError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.training.launch import LaunchedTrainer
from hsstar.recipe.recipe import Recipe
from hsstar.recipe.reward import RewardSection
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store.database import Database
from hsstar.store.models import Model, RewardModel
from hsstar.store.queue import wakeups
from hsstar.store.queue.by_engine import waiting_jobs
from hsstar.verifier import MathVerifier
from hsstar.workers.app import make_app
from hsstar.workers.context import make_context
from hsstar.workers.engine_schedule import EngineScheduler
from hsstar.workers.runtime import Worker
from tests.deterministic import DeterministicSampler, MarkingTrainer, ReadingRewardModel
from tests.store.drawing import WakeUps, add_jobs, execute, scalars, set_gpus
from tests.store.driver import Begin
from tests.store.factory import (
    add_iteration,
    add_job,
    add_problems,
    add_run,
    change_jobs,
    claim,
    make_recipe,
    reward_ids,
    state_of,
)
from tests.store.noting import POLICY, REWARD_MODEL

ALL_KINDS = list(JobKind)
JOB_SAMPLES = 16
PROBLEMS = {"dataset": "train", "per_iteration": 12}
RECIPE = make_recipe(problems=PROBLEMS, sampling={"n": 8, "n_p": 4})

# --- which ones ---------------------------------------------------------------------------------


def context_of(folder: Path, **settings: Any) -> WorkerContext:
    known = replace(Settings(folder, folder / "models"), **settings)
    return make_context(known, Database("postgresql://nobody@127.0.0.1:1/nowhere"), "worker")


def reward_model() -> RewardModel:
    return RewardModel(1, "prm", REWARD_MODEL, "skywork", fingerprint(REWARD_MODEL))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_engines_get_the_options_of_the_recipe(tmp_path: Path, dtype: str) -> None:
    engines = context_of(tmp_path).engines
    reward = {"model": REWARD_MODEL, "dtype": dtype, "batch_tokens": 321}
    recipe = make_recipe(policy={"model": POLICY, "dtype": dtype}, reward=reward)
    with engines.sampler(Model(1, "M0", POLICY, fingerprint(POLICY), None), recipe) as sampler:
        assert sampler.name.startswith("transformers")
        assert str(vars(sampler)["_dtype"]) == f"torch.{dtype}"
    (built,) = engines.reward_models([(reward_model(), recipe.scoring[0])])
    scorer = vars(built)
    assert (scorer["_batch_tokens"], str(scorer["_model"].dtype)) == (321, f"torch.{dtype}")
    engines.close()


@pytest.mark.parametrize(("option", "other"), [("kind", "qwen-math"), ("engine", "vllm")])
def test_a_reward_model_of_another_kind_or_engine_is_refused(tmp_path: Path, option: str, other: str) -> None:
    recipe = make_recipe(reward={"model": REWARD_MODEL, option: other})
    with pytest.raises((CheckpointError, BadInputError), match=other):
        context_of(tmp_path).engines.reward_models([(reward_model(), recipe.scoring[0])])


def test_settings_that_concern_engines_reach_them(tmp_path: Path) -> None:
    plain = context_of(tmp_path, job_samples=7)
    assert (plain.job_samples, plain.models_folder) == (7, tmp_path / "models")
    assert not isinstance(plain.engines.trainer(), LaunchedTrainer)
    config = tmp_path / "accelerate.yaml"
    config.write_text("{}")
    launched = vars(context_of(tmp_path, train_processes=3, accelerate_config=config).engines.trainer())
    assert (launched["_processes"], launched["_launch_config"]) == (3, config)


@pytest.mark.parametrize(
    ("resident", "gpus", "one"), [("auto", 1, True), ("auto", 0, False), ("one", 0, True), ("all", 1, False)]
)
def test_one_engine_at_a_time_stays_as_the_settings_say_and_by_default_on_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resident: str, gpus: int, one: bool
) -> None:
    set_gpus(tmp_path, monkeypatch, gpus)
    assert context_of(tmp_path, resident_engines=resident).engines.one_at_a_time is one


# --- room for one -------------------------------------------------------------------------------


class Census:
    """Builds engines, whose samplers may sleep instead of being closed, and counts those in memory."""

    def __init__(self, *, can_sleep: bool = False) -> None:
        self.can_sleep = can_sleep
        self.built: Counter[str] = Counter()
        self.present: set[Any] = set()
        self.peak = 0  # the most that were present at once

    def enter(self, engine: Any) -> None:
        self.present.add(engine)
        self.peak = max(self.peak, len(self.present))

    def engine(self, kind: str, engine: Any) -> Any:
        self.built[kind] += 1
        self.enter(engine)
        engine.close = partial(self.present.discard, engine)
        if self.can_sleep and kind == "sampler":
            engine.sleep, engine.wake = partial(self.present.discard, engine), partial(self.enter, engine)
        return engine

    def sampler(self, folder: str, recipe: Recipe) -> Any:
        return self.engine("sampler", DeterministicSampler(folder))

    def reward_model(self, folder: str, section: RewardSection) -> Any:
        return self.engine("reward model", ReadingRewardModel())

    def trainer(self) -> Any:
        def train(*arguments: Any) -> Any:
            self.enter(trainer)
            report = MarkingTrainer.train(trainer, *arguments)
            self.present.discard(trainer)
            return report

        self.built["trainer"] += 1
        trainer: Any = MarkingTrainer()
        trainer.train = train
        return trainer


Work = Callable[..., Counter[str]]


@pytest.fixture
def work(begin: Begin, database: Database, verifier: MathVerifier, tmp_path: Path, wake_ups: WakeUps) -> Work:
    """Lets a worker do all of so many runs: it gets every wake-up, from each queue in turn. Jobs by kind."""

    def work(census: Census, runs: int, *, one_at_a_time: bool) -> Counter[str]:
        for _ in range(runs):
            begin(RECIPE)
        builders = census.sampler, census.reward_model, lambda settings: verifier, census.trainer
        engines = EnginePool(*builders, one_at_a_time=one_at_a_time)
        context = WorkerContext(database, engines, JOB_SAMPLES, tmp_path / "models")
        settings = Settings(tmp_path, tmp_path, job_samples=JOB_SAMPLES)
        worker = Worker("all", ALL_KINDS, settings, context, make_app("test", "memory://"))
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

    return work


@pytest.mark.slow
@pytest.mark.parametrize("can_sleep", [False, True])
def test_a_mixed_queue_is_done_with_one_engine_at_a_time_and_few_changes(work: Work, can_sleep: bool) -> None:
    census = Census(can_sleep=can_sleep)
    done = work(census, runs=2, one_at_a_time=True)
    assert done["train"] == 2
    assert min(done["sample"], done["score"]) >= 10
    assert census.peak == 1
    # pre-sampling, rewards, re-sampling, rewards; in turns with the wake-ups it would be one for each job
    assert census.built["sampler"] <= (1 if can_sleep else 4)
    assert census.built["reward model"] <= 4


def test_where_there_is_room_all_engines_stay_until_the_end(work: Work) -> None:
    census = Census()
    work(census, runs=1, one_at_a_time=False)
    assert census.built == {"sampler": 1, "reward model": 1, "trainer": 1}
    assert len(census.present) == 2


# --- claims -------------------------------------------------------------------------------------


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
    found = {jobs.engine: (jobs.job_id, jobs.seconds) for jobs in waiting_jobs(connection, ALL_KINDS)}
    assert found == {
        EngineKey(JobKind.SAMPLE, (run.model_id,)): (samplings[2], 0.0),
        EngineKey(JobKind.SAMPLE, (other.model_id,)): (samplings[1], 0.0),
        EngineKey(JobKind.SCORE, reward_ids(connection, run)): (scoring, 9.0),
        EngineKey(JobKind.VERIFY): (verification, 0.0),
    }
    assert [each.engine.kind for each in waiting_jobs(connection, [JobKind.VERIFY])] == [JobKind.VERIFY]


def test_a_job_that_makes_room_stays_queued_and_gets_another_wake_up(database: Database) -> None:
    first, second, scoring = add_jobs(database, JobKind.SAMPLE, JobKind.SAMPLE, JobKind.SCORE)
    with database.begin() as connection:
        assert len(wakeups.claim_due_wakeups(connection)) == 3
    scheduler = EngineScheduler(ALL_KINDS, swap_seconds=60.0)
    assert [claimed(scheduler, database, named) for named in (first, scoring)] == [first, second]
    with database.begin() as connection:
        assert state_of(connection, scoring) == "queued"
        assert wakeups.claim_due_wakeups(connection) == [(scoring, JobKind.SCORE)]
    # a wake-up whose job has been taken means any work
    assert [claimed(scheduler, database, named) for named in (second, scoring)] == [scoring, None]


def test_jobs_that_have_waited_long_are_taken_before_the_engine_runs_out_of_work(database: Database) -> None:
    job_ids = add_jobs(database, *[JobKind.SAMPLE] * 4, *[JobKind.SCORE] * 2)
    execute(database, "UPDATE jobs SET available_at = now() - interval '10 seconds'")
    order: list[int | None] = []
    scheduler = EngineScheduler(ALL_KINDS, swap_seconds=5.0, clock=lambda: 3.0 * len(order))
    for _ in job_ids:
        order.append(claimed(scheduler, database, job_ids[0]))
    assert order == [*job_ids[:2], *job_ids[4:], *job_ids[2:4]]
