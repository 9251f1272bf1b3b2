"""Sampling jobs, workers for them, and engines that fail as a test wants it; needs no PyTorch."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.checkpoints.resolve import fingerprint
from hsstar.domain.errors import EngineDeadError, EngineMemoryError
from hsstar.domain.lifecycle import JobKind
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.settings import Settings
from hsstar.store import models, runs
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.workers.app import make_app
from hsstar.workers.runtime import Worker
from tests.store.factory import (
    add_iteration,
    add_job,
    add_problems,
    add_round,
    add_worker,
    make_recipe,
    state_of,
)
from tests.store.noting import NOWHERE, make_context
from tests.store.threads import beside
from tests.waiting import wait_for

JOB_SAMPLES = 16
Address = tuple[int, int]
"""Problem id and slot."""
Results = Iterator[tuple[int, Completion | str]]
WakeUps = list[tuple[int, JobKind]]


class FragileSampler:
    """Draws the seed as text; more than `most` at once do not fit, and after so many it dies or stalls."""

    name = "fragile 1.0"

    def __init__(
        self, most: int = 1000, lives_for: int | None = None, stalls_after: int | None = None
    ) -> None:
        self.most, self.lives_for, self.stalls_after = most, lives_for, stalls_after
        self.released = threading.Event()
        self.asked: list[int] = []
        self.closed = False

    def draw(self, requests: Sequence[SampleRequest], parameters: SamplingParameters) -> Results:
        self.asked.append(len(requests))
        if len(requests) > self.most:
            raise EngineMemoryError(f"out of memory: {len(requests)} at once")
        for index, request in enumerate(requests):
            if index == self.lives_for:
                raise EngineDeadError("the engine has died")
            if index == self.stalls_after:
                self.released.wait()
            yield index, Completion(str(request.seed), 3, "stop", -1.0, 1.0)

    def reload(self, model: Path) -> None:
        raise AssertionError("all rounds have one policy")

    def close(self) -> None:
        self.closed = True


def make_worker(
    database: Database,
    build: Callable[..., Sampler] = lambda *_: FragileSampler(),
    *,
    name: str = "worker",
    roles: Sequence[JobKind] = (JobKind.SAMPLE,),
    one_at_a_time: bool = False,
    **settings: Any,
) -> Worker:
    """A worker that has not started, for jobs that sample; its broker lives in this process."""
    context = make_context(database, sampler=build, job_samples=JOB_SAMPLES, one_at_a_time=one_at_a_time)
    return Worker(
        name, [*roles], Settings(NOWHERE, NOWHERE, **settings), context, make_app("test", "memory://")
    )


@contextmanager
def stalled(worker: Worker, engine: FragileSampler, job_id: int | None) -> Iterator[None]:
    """The worker has begun a job, which ends after the block."""
    with beside(lambda: worker.run_job(job_id)):
        try:
            wait_for(lambda: engine.asked)
            yield
        finally:
            engine.released.set()


def add_sampling(
    database: Database, name: str, policy: Path, problems: int, slots: int, **engine: Any
) -> tuple[int, list[int]]:
    """A run of this policy with an iteration over problems that all runs share; `engine` are its options.

    Returns the round and its queued jobs, `JOB_SAMPLES` slots each.
    """
    recipe = make_recipe(
        policy={"model": "tiny", **engine},
        reward={"model": "none"},
        difficulty={"signal": "accuracy"},
        pairs={"rule": "random"},
        sampling={"n": slots, "n_p": slots, "max_new_tokens": 30},
    )
    with database.begin() as connection:
        ids = add_problems(connection, problems)
        model = models.register_model(connection, name, str(policy), fingerprint(policy))
        run = runs.create_run(connection, name, recipe, model.id)
        round_id = add_iteration(connection, run, ids).id
        addresses = [(problem, slot) for problem in ids for slot in range(slots)]
        parts = [addresses[start : start + JOB_SAMPLES] for start in range(0, len(addresses), JOB_SAMPLES)]
        items = [{owner: [slot for of, slot in part if of == owner] for owner, _ in part} for part in parts]
        return round_id, [add_job(connection, round_id, items=held) for held in items]


def add_jobs(database: Database, *kinds: JobKind) -> list[int]:
    """Queued jobs of one round of a problem."""
    with database.begin() as connection:
        round_id, _ = add_round(connection, 1)
        return [add_job(connection, round_id, kind) for kind in kinds]


def set_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Let this process find so many GPUs."""
    driver = folder / "nvidia-smi"
    gpus = [f"echo 'GPU {number}: NVIDIA H200 (UUID: GPU-{number})'" for number in range(count)]
    driver.write_text("\n".join(["#!/bin/sh", *gpus]))
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def execute(database: Database, statement: str, **parameters: Any) -> list[Any]:
    """The rows of a statement in a transaction of its own."""
    with database.begin() as connection:
        result = connection.execute(text(statement), parameters)
        return list(result.all()) if result.returns_rows else []


def scalars(database: Database, query: str, **parameters: Any) -> list[Any]:
    return [value for (value,) in execute(database, query, **parameters)]


def register(database: Database, *started: Worker | str) -> None:
    """Write the rows of workers, as if they had started, or of others of these names."""
    with database.begin() as connection:
        for worker in started:
            if isinstance(worker, Worker):
                workers.register(connection, worker.identity, ",".join(worker.roles))
            else:
                add_worker(connection, worker)


def request_stop(database: Database, name: str) -> None:
    with database.begin() as connection:
        workers.request_stop(connection, [name], [], everyone=False)


def worker_row(database: Database, name: str = "worker") -> dict[str, Any]:
    (row,) = execute(database, "SELECT * FROM workers WHERE name = :name", name=name)
    return dict(row._mapping)


def responses(database: Database, round_id: int) -> dict[Address, str]:
    """The responses of a round by their address."""
    responses = "samples JOIN sample_responses ON sample_id = id"
    query = f"SELECT problem_id, slot, response FROM {responses} WHERE round_id = :id"
    return {(row.problem_id, row.slot): row.response for row in execute(database, query, id=round_id)}


@dataclass(frozen=True)
class Sampling:
    """A round of sampling jobs, and what its tests do and see."""

    database: Database
    round_id: int
    job_ids: list[int]

    def worker(self, build: Callable[..., Sampler] = lambda *_: FragileSampler(), **settings: Any) -> Worker:
        return make_worker(self.database, build, **settings)

    def jobs(self) -> list[tuple[str, int, int]]:
        """State, attempts and size of the sampling jobs."""
        query = """
            SELECT state, attempts, sum(cardinality(slots)) FROM jobs JOIN job_items ON job_id = jobs.id
            WHERE kind = 'sample' GROUP BY jobs.id ORDER BY jobs.id
        """
        return [tuple(row) for row in execute(self.database, query)]

    def states(self, *job_ids: int) -> list[str]:
        """The states of these jobs, or of its own."""
        with self.database.begin() as connection:
            return [state_of(connection, job_id) for job_id in job_ids or self.job_ids]

    def responses(self) -> dict[Address, str]:
        return responses(self.database, self.round_id)

    def errors(self) -> set[str | None]:
        return set(scalars(self.database, "SELECT error FROM jobs WHERE kind = 'sample'"))

    def note(self) -> str | None:
        note: str | None = worker_row(self.database)["note"]
        return note

    def hurry(self) -> list[int]:
        """The queued sampling jobs, whose delays are over now."""
        queued = "state = 'queued' AND kind = 'sample'"
        return scalars(self.database, f"UPDATE jobs SET available_at = now() WHERE {queued} RETURNING id")

    def work(self, worker: Worker, threads: int = 1) -> None:
        """Run jobs, so many at once, until none is queued, without their delays."""
        while queued := self.hurry():
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(worker.run_job, queued))


@pytest.fixture
def sampling(database: Database, checkpoint: Path) -> Sampling:
    """64 samples in four jobs."""
    return Sampling(database, *add_sampling(database, "run", checkpoint, 16, 4))


@pytest.fixture
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> WakeUps:
    """The messages that were sent; nobody receives them."""
    sent: WakeUps = []
    sender = "hsstar.workers.background.send_wake_up"
    monkeypatch.setattr(sender, lambda app, job_id, kind: sent.append((job_id, kind)))
    return sent


@pytest.fixture
def terminations() -> Iterator[list[int]]:
    """The requests to end that this process sends itself."""
    received: list[int] = []
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    yield received
    for number, handler in zip((signal.SIGTERM, signal.SIGINT), before, strict=True):
        signal.signal(number, handler)
