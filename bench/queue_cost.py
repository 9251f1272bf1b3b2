"""What queue and store cost an iteration: the whole way of its samples, with engines that take no time."""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import text

from bench.setup import RESPONSE_BYTES
from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.verdict import Cause
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.recipe.recipe import parse_recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import datasets, models, rounds, runs
from hsstar.store.database import Database
from hsstar.verifier.contract import Comparison, VerificationRequest
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker

POLICY, REWARD_MODEL = "builtin:demo-policy", "builtin:demo-prm"
STEPS = 8


class InstantEngine:
    """Sampler, verifier and reward model at once; answers as soon as it is asked."""

    name = version = "instant 1"

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Responses of 1.2 KB in eight steps."""
        for index, request in enumerate(requests):
            step = f"{request.seed:019d} ".ljust(RESPONSE_BYTES // STEPS - 2, "x")
            yield index, Completion("\n\n".join([step] * STEPS), 400, "stop", -99.5, 1.0)

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[Comparison]:
        """Every other sample is correct."""
        return [
            Comparison("1", "1", Cause.CORRECT if int(request.response[:19]) % 2 else Cause.INCORRECT, b"")
            for request in requests
        ]

    def decide(self, comparisons: Sequence[Comparison]) -> Iterator[tuple[bytes, Cause]]:
        """Nothing is left to decide."""
        return iter(())

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Every step is as good as the next."""
        return [StepRewards((0.5,) * len(request.steps)) for request in requests]

    def reload(self, model: Path) -> None:
        """Nothing to load."""

    def close(self) -> None:
        """Nothing to close."""


def seconds_of_iteration(database: Database, broker_url: str, problems: int) -> tuple[float, int]:
    """Seconds and samples of an iteration, from its rows being made to its last state, in one worker."""
    recipe = parse_recipe(
        {
            "name": "cost",
            "problems": {"dataset": "cost", "per_iteration": problems},
            "policy": {"model": POLICY, "prompt": "bare"},
            "reward": {"model": REWARD_MODEL},
            "training": {"objective": "none"},
        }
    )
    with database.begin() as connection:
        policy = models.register_model(connection, POLICY, POLICY, fingerprint(POLICY))
        reward = models.register_reward_model(
            connection, REWARD_MODEL, REWARD_MODEL, "skywork", fingerprint(REWARD_MODEL)
        )
        run = runs.create_run(connection, "cost", recipe, policy.id, reward.id)
        dataset_id = datasets.ensure_dataset(connection, "cost")
        connection.execute(
            text("""
                INSERT INTO problems (dataset_id, key, statement, reference_answer)
                SELECT :id, md5(CAST(number AS text)), 'problem ' || number, '1'
                FROM generate_series(1, :problems) AS number
            """),
            {"id": dataset_id, "problems": problems},
        )
    worker = _worker(database, broker_url)
    started = time.perf_counter()
    with database.begin() as connection:
        rounds.add_iterations(connection, run, [0])
    _work(database, worker)
    seconds = time.perf_counter() - started
    with database.begin() as connection:
        row = connection.execute(
            text("SELECT state, drawn FROM iteration_statistics WHERE run = 'cost'")
        ).one()
    assert row.state == "done", row
    return seconds, row.drawn


def _worker(database: Database, broker_url: str) -> Worker:
    engine = InstantEngine()
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    settings = Settings(folder, folder, resident_engines="all")
    engines = EnginePool(
        lambda location, recipe: engine,
        lambda location, recipe: engine,
        lambda: engine,
        lambda: None,  # type: ignore[arg-type, return-value]  # nothing is trained
    )
    context = WorkerContext(database, engines, settings.job_samples, folder)
    return Worker("cost", list(JobKind), settings, context, make_app(broker_url))


def _work(database: Database, worker: Worker) -> None:
    """What a worker does at its wake-ups and pulses, in this process, until nothing is queued."""
    worker.start()
    try:
        while True:
            with database.begin() as connection:
                queued = connection.scalar(text("SELECT min(id) FROM jobs WHERE state = 'queued'"))
                done = connection.scalar(text("SELECT bool_and(state = 'done') FROM iterations"))
            if done:
                return
            if queued is None:
                time.sleep(0.05)
            else:
                worker.run_job(queued)
    finally:
        worker.stop()
