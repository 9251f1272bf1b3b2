"""A worker whose sampler is a completions server: while that is away, its jobs wait and none fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.resolve import resolve
from hsstar.domain.lifecycle import JobKind
from hsstar.settings import Settings
from hsstar.store.database import Database
from hsstar.workers.app import make_app
from hsstar.workers.context import make_context
from hsstar.workers.runtime import Worker
from tests.engines.completions_host import Host, running, text_of
from tests.store.drawing import Sampling, add_sampling, register
from tests.store.threads import beside
from tests.waiting import wait_for

POLICY = resolve("builtin:demo-policy")


@pytest.fixture
def host() -> Iterator[Host]:
    with running(Host(text_of, weights="first")) as found:
        yield found


@pytest.fixture
def sampling(database: Database, host: Host) -> Sampling:
    """A round of 16 samples in one job."""
    options = {"base_url": host.url, "model": "policy", "reload": "vllm", "concurrency": 4}
    engine: dict[str, Any] = {"engine": "openai", "prompt": "bare", "openai": options}
    return Sampling(database, *add_sampling(database, "run", POLICY, 4, 4, **engine))


@pytest.fixture
def shared(database: Database, host: Host) -> Iterator[tuple[Sampling, Host]]:
    """The same round on two servers."""
    with running(Host(text_of, weights="first")) as other:
        options = {"base_urls": [host.url, other.url], "model": "policy", "concurrency": 2, "reload": "vllm"}
        engine: dict[str, Any] = {"engine": "openai", "prompt": "bare", "openai": options}
        yield Sampling(database, *add_sampling(database, "run", POLICY, 4, 4, **engine)), other


@pytest.fixture
def worker(database: Database, tmp_path: Path) -> Iterator[Worker]:
    settings = Settings(tmp_path, tmp_path)
    context = make_context(settings, database, "worker")
    register(database, "worker")
    yield Worker("worker", [JobKind.SAMPLE], settings, context, make_app("test", "memory://"))
    context.engines.close()


@pytest.mark.slow
def test_a_job_waits_for_its_server_whenever_that_is_away_and_its_worker_says_so(
    sampling: Sampling, worker: Worker, host: Host
) -> None:
    host.delay = 0.1
    host.stop()
    with beside(lambda: worker.run_job(sampling.job_ids[0])):
        assert str(wait_for(sampling.note)).startswith(f"waiting for {host.url} for 0 s: ")
        assert sampling.jobs() == [("running", 1, 16)]
        host.start()
        wait_for(lambda: len(host.bodies) >= 6)
        assert str(sampling.note()).startswith(f"{host.url} answers again after ")
        host.stop()
        wait_for(lambda: str(sampling.note()).startswith("waiting for"))
        host.start()
    assert [drawn.split("|")[0] for drawn in sampling.responses().values()] == [POLICY.name] * 16
    assert sampling.jobs() == [("done", 1, 16)]
    assert (host.most, host.loads) == (4, [str(POLICY)] * 2)


def test_a_refused_key_fails_the_job_in_a_line(sampling: Sampling, worker: Worker, host: Host) -> None:
    host.api_key = "right"
    worker.run_job(sampling.job_ids[0])
    (error,) = sampling.errors()
    assert "HSSTAR_OPENAI_API_KEY is not set" in str(error)
    assert "\n" not in str(error)


def test_each_sample_is_drawn_once_when_one_of_two_servers_is_killed(
    shared: tuple[Sampling, Host], worker: Worker, host: Host
) -> None:
    sampling, other = shared
    host.delay = other.delay = 0.1
    with beside(lambda: worker.run_job(sampling.job_ids[0])):
        wait_for(lambda: len(host.bodies) >= 3)
        host.stop()
    assert [drawn.split("|")[0] for drawn in sampling.responses().values()] == [POLICY.name] * 16
    assert sampling.jobs() == [("done", 1, 16)]
    assert sampling.note() is None
    seeds = [body["seed"] for body in host.bodies + other.bodies]
    assert len(set(seeds)) == 16
    assert len(seeds) <= 18  # what was under way at the killed one was asked for again


def test_a_chat_without_log_probabilities_gives_rows_without(
    database: Database, worker: Worker, host: Host
) -> None:
    def chat(weights: str, body: dict[str, Any]) -> dict[str, Any]:
        message = {"content": f"so {body['seed']}", "reasoning_content": body["messages"][-1]["content"]}
        choice = {"message": message, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"completion_tokens": 3}}

    host.complete, host.is_vllm = chat, False
    options = {"base_url": host.url, "model": "policy", "protocol": "chat", "logprobs": False}
    engine: dict[str, Any] = {"engine": "openai", "prompt": "chat", "openai": options}
    sampling = Sampling(database, *add_sampling(database, "run", POLICY, 4, 4, **engine))
    worker.run_job(sampling.job_ids[0])
    assert sampling.jobs() == [("done", 1, 16)]
    assert all(drawn.startswith("<think>") for drawn in sampling.responses().values())
    with database.begin() as connection:
        facts = connection.exec_driver_sql("SELECT cumulative_logprob FROM sample_facts").scalars().all()
    assert facts == [None] * 16
