"""What samples cost the store and the queue: their writing alone, and a whole iteration without engines."""

import multiprocessing
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sqlalchemy import text

from bench.queue_setup import count, processor_seconds
from bench.setup import RESPONSE_BYTES, add_problems, fill
from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.verdict import Cause, CheckResult, Judgement
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.recipe.recipe import parse_recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.stages.sample import BATCH_SAMPLES
from hsstar.store import models, rounds, runs, samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.runs import Run
from hsstar.store.samples import DrawnSample
from hsstar.verifier.contract import AnswerPair, VerificationRequest
from hsstar.verifier.references import ReferenceKind
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker

PROBLEMS = 7_500
SLOTS_BEFORE = 8  # filled slots of every problem
TEXTS = 512
POLICY, REWARD_MODEL = "builtin:demo-policy", "builtin:demo-prm"
STEPS = 8


def write(url: str, job_id: int, problems: list[int], seconds: float, barrier: object) -> int:
    """Write batches of samples under the lease of a job for some seconds; return their number."""
    database = Database(url)
    with database.begin() as connection:
        job = jobs.claim(connection, job_id, f"writer-{job_id}", lease_seconds=3_600)
        assert job is not None
    drawn = drawn_samples(problems)
    written = 0
    barrier.wait()  # type: ignore[attr-defined]
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = [next(drawn) for _ in range(BATCH_SAMPLES)]
        with database.begin() as connection:
            jobs.fence(connection, job)
            written += samples.write_samples(connection, job.round_id, 1, job.worker, batch)
    with database.begin() as connection:
        jobs.complete(connection, job)
    database.close()
    return written


def drawn_samples(problems: list[int]) -> Iterator[DrawnSample]:
    """Yield samples of 1.2 KB without end, problem by problem like a job."""
    generator = random.Random(problems[0])
    texts = [generator.randbytes(RESPONSE_BYTES // 2).hex() for _ in range(TEXTS)]
    slot = SLOTS_BEFORE
    while True:
        for number, problem in enumerate(problems):
            for place in range(slot, slot + SLOTS_BEFORE):
                response = texts[(number + place) % TEXTS]
                yield DrawnSample(problem, place, response, place, 400, "stop", -99.5, "engine 1", 812.5)
        slot += SLOTS_BEFORE


def rate(database: Database, writers: int, seconds: float) -> tuple[float, float]:
    """Let processes write samples; return samples per second, and processor seconds per sample."""
    with database.begin() as connection:
        round_id = fill(connection, PROBLEMS)[1].id
        ids = list(connection.execute(text("SELECT id FROM problems ORDER BY id")).scalars())
        job_ids = connection.execute(
            text(
                "INSERT INTO jobs (round_id, kind) SELECT :id, :kind FROM generate_series(1, :n) RETURNING id"
            ),
            {"id": round_id, "kind": JobKind.SAMPLE.value, "n": writers},
        ).scalars()
        parts = [(job, ids[place::writers]) for place, job in enumerate(job_ids)]
    before = count(database, "sample_responses")
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(writers) as pool:
        barrier = manager.Barrier(writers)
        pool.map(abs, range(writers))  # the processes have imported their modules
        started = processor_seconds(database)
        arguments = [(database.url, job, part, seconds, barrier) for job, part in parts]
        written = sum(pool.starmap(write, arguments))
        processor = processor_seconds(database) - started
    assert count(database, "sample_responses") - before == written
    return written / seconds, processor / written


class InstantEngine:
    """A sampler, verifier and reward model that answers at once."""

    name = version = "instant 1"
    compares_answers = True

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Yield responses of 1.2 KB in eight steps."""
        for index, request in enumerate(requests):
            step = f"{request.seed:019d} ".ljust(RESPONSE_BYTES // STEPS - 2, "x")
            yield index, Completion("\n\n".join([step] * STEPS), 400, "stop", -99.5, 1.0)

    def prepare(self, requests: Sequence[VerificationRequest]) -> list[AnswerPair]:
        """Call every other sample correct."""
        return [
            AnswerPair("1", "1", Cause.CORRECT if int(request.response[:19]) % 2 else Cause.INCORRECT, b"")
            for request in requests
        ]

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """Call every other sample correct."""
        return [Judgement(pair.cause or Cause.CRASHED, pair.answer) for pair in self.prepare(requests)]

    def examine(self, requests: Sequence[VerificationRequest]) -> list[ReferenceKind]:
        """Call every reference a value."""
        return [ReferenceKind.VALUE] * len(requests)

    def decide(self, pairs: Sequence[AnswerPair]) -> Iterator[tuple[bytes, CheckResult]]:
        """Decide nothing: no pair is open."""
        return iter(())

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Give every step the same reward."""
        return [StepRewards((0.5,) * len(request.steps)) for request in requests]

    def reload(self, model: Path) -> None:
        """Load nothing."""

    def close(self) -> None:
        """Close nothing."""


def add_run(database: Database, problems: int) -> Run:
    """Add a run without training over this number of new problems."""
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
        run = runs.create_run(connection, "cost", recipe, policy.id, [reward.id])
        add_problems(connection, "cost", problems)
    return run


def seconds_of_iteration(database: Database, broker_url: str, problems: int) -> tuple[float, int]:
    """Run an iteration in one worker; return the seconds that it takes, and the number of its samples."""
    run = add_run(database, problems)
    worker = make_worker(database, broker_url)
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


def make_worker(database: Database, broker_url: str, name: str = "cost", job_samples: int = 256) -> Worker:
    """Return a worker of every role, whose engines take no time."""
    folder = Path(os.environ.get("TMPDIR", "/tmp"))
    settings = Settings(folder, folder, resident_engines="all", job_samples=job_samples)
    context = context_of(InstantEngine(), settings, database)
    return Worker(name, list(JobKind), settings, context, make_app("bench", broker_url))


def context_of(engine: InstantEngine, settings: Settings, database: Database) -> WorkerContext:
    """Return the context of a worker with this engine for everything but training."""
    engines = EnginePool(
        lambda location, recipe: engine,
        lambda location, section: engine,
        lambda settings: engine,
        lambda: None,  # type: ignore[arg-type, return-value]  # nothing is trained
    )
    return WorkerContext(database, engines, settings.job_samples, settings.models_dir)


def _work(database: Database, worker: Worker) -> None:
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
