"""Sampling jobs, workers for them, and engines that fail as a test wants it; needs no PyTorch."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import EngineDeadError, EngineMemoryError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.recipe.recipe import Recipe
from hsstar.settings import Settings
from hsstar.stages.context import WorkerContext
from hsstar.stages.engine_pool import EnginePool
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker
from tests.store.factory import add_iteration, add_job, add_problems, make_recipe

JOB_SAMPLES = 16
EMPTY_WEIGHTS = b"\x02\x00\x00\x00\x00\x00\x00\x00{}"
Address = tuple[int, int]
"""Problem id and slot."""
Results = Iterator[tuple[int, Completion | str]]


class FragileSampler:
    """Draws the seed as text and fails as it is told.

    Attributes:
        most: more requests at once do not fit into its memory.
        lives_for: results of a draw until the engine is dead.
        stalls_after: results of a draw until it waits for `released`.
    """

    name = "fragile 1.0"

    def __init__(
        self, *, most: int = 1_000_000, lives_for: int | None = None, stalls_after: int | None = None
    ) -> None:
        self.most, self.lives_for, self.stalls_after = most, lives_for, stalls_after
        self.released = threading.Event()
        self.asked: list[int] = []
        self.loaded: list[str] = []
        self.abandoned = self.closed = False

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
        self.asked.append(len(requests))
        if len(requests) > self.most:
            raise EngineMemoryError(f"out of memory: {len(requests)} at once")
        try:
            for index, request in enumerate(requests):
                if index == self.lives_for:
                    raise EngineDeadError("the engine has died")
                if index == self.stalls_after:
                    self.released.wait()
                yield index, Completion(str(request.seed), 3, "stop", -1.0, 1.0)
        except GeneratorExit:
            self.abandoned = True
            raise

    def reload(self, model: Path) -> None:
        self.loaded.append(str(model))

    def close(self) -> None:
        self.closed = True


def make_context(
    database: Database, build: Callable[[str, Recipe], Sampler], *, one_at_a_time: bool = False
) -> WorkerContext:
    """A context that samples and does nothing else."""

    def unwanted(*arguments: object) -> None:
        raise AssertionError("sampling needs no other engine")

    engines = EnginePool(build, unwanted, unwanted, unwanted, one_at_a_time=one_at_a_time)  # type: ignore[arg-type]
    return WorkerContext(database, engines, JOB_SAMPLES, Path("/nonexistent"))


def make_worker(
    database: Database,
    build: Callable[[str, Recipe], Sampler] = lambda folder, recipe: FragileSampler(),
    *,
    name: str = "worker",
    roles: Sequence[JobKind] = (JobKind.SAMPLE,),
    one_at_a_time: bool = False,
    **settings: Any,
) -> Worker:
    """A worker that has not started; its broker lives in this process."""
    folder = Path("/nonexistent")
    context = make_context(database, build, one_at_a_time=one_at_a_time)
    return Worker(name, [*roles], Settings(folder, folder, **settings), context, make_app("memory://"))


def unread_checkpoint(folder: Path) -> Path:
    """A folder with a fingerprint, which nothing is loaded from."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(EMPTY_WEIGHTS)
    return folder


def add_sampling(
    database: Database,
    name: str,
    policy: Path,
    problems: int,
    slots: int,
    max_new_tokens: int = 30,
    engine: Mapping[str, Any] | None = None,
) -> tuple[int, list[int]]:
    """A run of this policy with an iteration over problems that all runs share; `engine` are its options.

    Returns the round and its queued jobs, `JOB_SAMPLES` slots each.
    """
    recipe = make_recipe(
        policy={"model": "tiny"} | dict(engine or {}),
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
        sampling={"n": slots, "n_p": slots, "max_new_tokens": max_new_tokens},
    )
    with database.begin() as connection:
        ids = add_problems(connection, problems)
        model = models.register_model(connection, name, str(policy), fingerprint(policy))
        round_id = add_iteration(
            connection, runs.create_run(connection, name, recipe, model.id, None), ids
        ).id
        addresses = [(problem, slot) for problem in ids for slot in range(slots)]
        parts = [addresses[start : start + JOB_SAMPLES] for start in range(0, len(addresses), JOB_SAMPLES)]
        jobs = [add_job(connection, round_id, JobKind.SAMPLE, _by_problem(part)) for part in parts]
    return round_id, jobs


def _by_problem(addresses: Sequence[Address]) -> Mapping[int, list[int]]:
    items: dict[int, list[int]] = {}
    for problem, slot in addresses:
        items.setdefault(problem, []).append(slot)
    return items


def responses(database: Database, round_id: int) -> dict[Address, str]:
    """The responses of a round by their address."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT problem_id, slot, response
                FROM samples JOIN sample_responses ON sample_id = id WHERE round_id = :id
            """),
            {"id": round_id},
        )
        return {(row.problem_id, row.slot): row.response for row in rows}


def sampling_jobs(database: Database) -> list[tuple[str, int, int]]:
    """State, attempts and size of the sampling jobs."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT state, attempts, sum(cardinality(slots)) AS size
                FROM jobs JOIN job_items ON job_id = jobs.id WHERE kind = 'sample'
                GROUP BY jobs.id ORDER BY jobs.id
            """)
        )
        return [(row.state, row.attempts, row.size) for row in rows]


def worker_row(database: Database, name: str = "worker") -> dict[str, Any]:
    with database.begin() as connection:
        row = connection.execute(text("SELECT * FROM workers WHERE name = :name"), {"name": name}).one()
    return dict(row._mapping)


def work(database: Database, worker: Worker, threads: int = 1) -> None:
    """Runs sampling jobs, so many at once, until none is queued, without their delays."""
    while queued := hurry(database):
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(worker.run_job, queued))


def hurry(database: Database) -> list[int]:
    """The queued sampling jobs, whose delays are over now."""
    with database.begin() as connection:
        rows = connection.execute(
            text("""
                UPDATE jobs SET available_at = now() WHERE state = 'queued' AND kind = 'sample' RETURNING id
            """)
        )
        return list(rows.scalars())


def misattributed(database: Database) -> int:
    """How many samples are written under another policy than that of their round."""
    with database.begin() as connection:
        found: int = connection.execute(
            text("""
                SELECT count(*) FROM samples JOIN rounds ON rounds.id = round_id
                WHERE samples.model_id IS DISTINCT FROM rounds.model_id
            """)
        ).scalar_one()
    return found
