"""A worker whose sampler is a completions server: while that is away, its jobs wait and none fails."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from hsstar.checkpoints.resolve import resolve
from hsstar.domain.lifecycle import JobKind
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.store.queue import workers
from hsstar.workers.app import make_app
from hsstar.workers.context import make_context
from hsstar.workers.runtime import Worker
from tests.engines.completions_host import Host, running, text_of
from tests.store.drawing import add_sampling, responses, sampling_jobs, worker_row
from tests.waiting import wait_for

POLICY = resolve("builtin:demo-policy")


@pytest.fixture
def host() -> Iterator[Host]:
    with running(Host(text_of, weights="first")) as found:
        yield found


@pytest.fixture
def sampling(database: Database, host: Host) -> tuple[int, list[int]]:
    """A round of 16 samples in one job."""
    options = {"base_url": host.url, "model": "policy", "reload": "vllm", "concurrency": 4}
    engine = {"engine": "openai", "prompt": "bare", "openai": options}
    return add_sampling(database, "run", POLICY, 4, 4, engine=engine)


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(tmp_path, tmp_path)
    context = make_context(settings, database, "worker")
    with database.begin() as connection:
        workers.register(connection, "worker", "host", 1, "sample")
    yield Worker("worker", [JobKind.SAMPLE], settings, context, make_app("memory://"))
    context.engines.close()


def note(database: Database) -> str:
    return worker_row(database)["note"] or ""


def test_a_job_waits_for_a_server_that_is_away_and_its_worker_says_so(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host
) -> None:
    host.stop()
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_for(lambda: note(database))
    assert sampling_jobs(database) == [("running", 1, 16)]
    assert note(database).startswith(f"waiting for {host.url} for 0 s: ")

    host.start()
    working.join()

    found = responses(database, sampling[0])
    assert len(found) == 16
    assert all(response.startswith(f"{POLICY.name}|") for response in found.values())
    assert host.loads == [str(POLICY)]
    assert sampling_jobs(database) == [("done", 1, 16)]
    assert note(database).startswith(f"{host.url} answers again after ")


def test_a_server_that_comes_and_goes_costs_no_attempt(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host
) -> None:
    host.delay = 0.1
    working = threading.Thread(target=worker.run_job, args=(sampling[1][0],))
    working.start()
    wait_for(lambda: len(host.bodies) >= 6)
    assert host.most == 4
    host.stop()
    wait_for(lambda: note(database).startswith("waiting for"))
    host.start()
    working.join()

    assert len(responses(database, sampling[0])) == 16
    assert sampling_jobs(database) == [("done", 1, 16)]


def test_a_key_that_is_not_accepted_fails_the_job_in_a_line(
    database: Database, sampling: tuple[int, list[int]], worker: Worker, host: Host
) -> None:
    host.api_key = "right"
    worker.run_job(sampling[1][0])

    with database.begin() as connection:
        error = str(connection.execute(text("SELECT error FROM jobs WHERE kind = 'sample'")).scalar())
    assert "HSSTAR_OPENAI_API_KEY is not set" in error
    assert "\n" not in error
