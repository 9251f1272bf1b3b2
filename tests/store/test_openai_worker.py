"""A worker whose sampler is a completions server: while that is away, its jobs wait and none fails."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from hsstar.domain.lifecycle import JobKind
from hsstar.engines.sampling.openai import OpenAISampler
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.workers.app import make_app
from hsstar.workers.context import note_taker
from hsstar.workers.runtime import Worker
from tests.engines.completions_host import Host, running, text_of
from tests.store.drawing import add_sampling, make_context, responses


@pytest.fixture
def sampling(database: Database, tmp_path: Path) -> tuple[int, list[int]]:
    """A round of 16 samples in one job."""
    policy = tmp_path / "policy"
    policy.mkdir()
    (policy / "config.json").write_text("{}")
    (policy / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
    return add_sampling(database, "run", policy, 4, 4)


@pytest.fixture
def host() -> Iterator[Host]:
    with running(Host(text_of, weights="first")) as found:
        yield found


@pytest.fixture
def worker(database: Database, tmp_path: Path, host: Host) -> Iterator[Worker]:
    note = note_taker(database, "worker")
    context = make_context(
        database,
        lambda folder, recipe: OpenAISampler(
            folder, base_url=host.url, model="policy", reload="vllm", concurrency=4, note=note
        ),
    )
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
    yield Worker("worker", [JobKind.SAMPLE], Settings(tmp_path, tmp_path), context, make_app("memory://"))
    context.engines.close()


def wait_until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.05)


def state(database: Database) -> tuple[str, int, str | None]:
    """State and attempts of the sampling job, and what its worker says."""
    with database.begin() as connection:
        row = connection.execute(
            text("SELECT state, attempts, (SELECT note FROM workers) FROM jobs WHERE kind = 'sample'")
        ).one()
    return row[0], row[1], row[2]


def test_a_job_waits_for_a_server_that_is_away_and_its_worker_says_so(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host, tmp_path: Path
) -> None:
    host.stop()
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_until(lambda: bool(state(database)[2]))
    assert state(database)[:2] == ("running", 1)
    assert str(state(database)[2]).startswith(f"waiting for {host.url} for 0 s: ")

    host.start()
    working.join()

    found = responses(database, sampling[0])
    assert len(found) == 16
    assert all(response.startswith("policy|") for response in found.values())
    assert host.loads == [str(tmp_path / "policy")]
    assert state(database)[:2] == ("done", 1)
    assert str(state(database)[2]).startswith(f"{host.url} answers again after ")


def test_a_server_that_comes_and_goes_costs_no_attempt(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host
) -> None:
    host.delay = 0.2
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_until(lambda: len(host.bodies) >= 6)
    host.stop()
    time.sleep(0.3)
    host.start()
    working.join()

    assert len(responses(database, sampling[0])) == 16
    assert state(database)[:2] == ("done", 1)


def test_a_key_that_is_not_accepted_fails_the_job_in_a_line(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host
) -> None:
    host.api_key = "right"
    worker.run_job(sampling[1][0])

    with database.begin() as connection:
        error = str(connection.execute(text("SELECT error FROM jobs WHERE kind = 'sample'")).scalar())
    assert "HSSTAR_OPENAI_API_KEY is not set" in error
    assert "\n" not in error
