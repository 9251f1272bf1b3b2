"""Whether models, memory and disk fit is said before anything runs."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from hsstar.checkpoints.size import ModelSize, model_size
from hsstar.domain.errors import CheckpointError
from hsstar.domain.findings import Level
from hsstar.local.gpus import smallest_memory
from hsstar.plan.preflight import Device, check_memory, check_models
from hsstar.recipe.recipe import Recipe, parse_recipe

SEVEN_BILLION = ModelSize(None, 7_000_000_000, True)
ONE_GPU = Device(80e9, gpu=True)


def recipe(**sections: Any) -> Recipe:
    document: dict[str, Any] = {
        "name": "r",
        "problems": {"dataset": "d", "per_iteration": 100},
        "policy": {"model": "builtin:demo-policy"},
        "reward": {"model": "builtin:demo-prm"},
    }
    return parse_recipe(document | sections)


def write_shard(path: Path, **shapes: list[int]) -> None:
    """A safetensors file with these tensors in float16, all zero."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 2 * shape[0] * shape[1]
        header[name] = {"dtype": "F16", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(end))


def test_parameters_are_counted_over_all_shards(tmp_path: Path) -> None:
    write_shard(tmp_path / "model-1.safetensors", a=[3, 4], b=[2, 5])
    write_shard(tmp_path / "model-2.safetensors", c=[10, 10])
    index = {
        "weight_map": {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}
    }
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model_size(str(tmp_path)) == ModelSize(tmp_path.resolve(), 122, False)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Nobody-Here/HS-STaR-Qwen2.5-7B-M0", 7_000_000_000),
        ("Nobody-Here/Skywork-o1-Open-PRM-Qwen-2.5-1.5B", 1_500_000_000),
        ("Nobody-Here/tiny", None),
    ],
)
def test_a_model_that_is_not_downloaded_is_judged_by_its_name(
    name: str, parameters: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert model_size(name) == ModelSize(None, parameters, True)


def test_a_folder_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        model_size("./none-such")


def test_the_demos_models_are_there() -> None:
    checks, policy, reward = check_models(recipe(), None)
    assert [check.level for check in checks] == [Level.OK, Level.OK]
    assert policy is not None
    assert reward is not None
    assert 800_000 < (policy.parameters or 0) < 900_000


def test_a_missing_or_wrong_model_fails_and_says_why() -> None:
    checks, policy, _ = check_models(recipe(policy={"model": "./none-such"}), None)
    assert (checks[0].level, policy) == (Level.FAIL, None)
    assert "no such folder" in checks[0].text
    swapped, _, _ = check_models(recipe(policy={"model": "builtin:demo-prm"}), None)
    assert "not a policy" in swapped[0].text


def test_a_registered_policy_is_found_by_its_name() -> None:
    named = recipe(policy={"model": "mine"})
    unknown, _, _ = check_models(named, None)
    assert unknown[0].level is Level.UNCHECKED
    missing, _, _ = check_models(named, {})
    assert missing[0].level is Level.FAIL
    found, _, _ = check_models(named, {"mine": "builtin:demo-policy"})
    assert found[0].level is Level.OK


def test_7b_is_too_large_to_train_whole_on_one_gpu_and_not_on_four() -> None:
    levels = [check.level for check in check_memory(recipe(), SEVEN_BILLION, SEVEN_BILLION, ONE_GPU)]
    assert levels == [Level.OK, Level.OK, Level.FAIL]
    four = check_memory(
        recipe(), SEVEN_BILLION, SEVEN_BILLION, Device(80e9, gpu=True, processes=4, shared=True)
    )[-1]
    assert four.level is Level.OK
    assert "31.5 GB" in four.text  # 18 bytes × 7 billion / 4


def test_adapters_of_7b_fit_on_one_gpu() -> None:
    adapters = recipe(training={"lora_rank": 64})
    check = check_memory(adapters, SEVEN_BILLION, None, ONE_GPU)[-1]
    assert (check.level, "14 GB" in check.text) == (Level.OK, True)
    four_bit = recipe(training={"lora_rank": 64, "quantization": "4bit"})
    assert "3.5 GB" in check_memory(four_bit, SEVEN_BILLION, None, ONE_GPU)[-1].text


def test_the_reference_and_the_sharding_of_the_recipe_count() -> None:
    def reason(**training: Any) -> str:
        device = Device(80e9, gpu=True, processes=4)
        return check_memory(recipe(training=training), SEVEN_BILLION, None, device)[-1].text

    assert "112 GB" in reason(precompute_reference_logprobs=True)  # 16 bytes × 7 billion
    assert "31.5 GB" in reason(sharding="fsdp2")
    assert "63 GB" in reason(sharding="zero2")  # 4 + 2 whole, 12 / 4


def test_processes_that_share_nothing_hold_all_of_it() -> None:
    alone = check_memory(recipe(), SEVEN_BILLION, None, Device(80e9, gpu=True, processes=4))[-1]
    assert (alone.level, "126 GB" in alone.text) == (Level.FAIL, True)


def test_weights_shared_by_gpus_count_in_parts() -> None:
    small = Device(10e9, gpu=True)
    alone = check_memory(recipe(), SEVEN_BILLION, None, small)[0]
    sections = {"model": "m", "engine": "vllm", "vllm": {"tensor_parallel_size": 2}}
    shared = check_memory(recipe(policy=sections), SEVEN_BILLION, None, small)[0]
    assert (alone.level, shared.level) == (Level.FAIL, Level.OK)


def test_what_is_not_known_is_not_judged() -> None:
    unknown = ModelSize(None, None, True)
    assert {check.level for check in check_memory(recipe(), unknown, None, ONE_GPU)} == {Level.UNCHECKED}


def test_the_smallest_visible_gpu_counts() -> None:
    listed = "0, 81559\n1, 24564\n2, [N/A]\n"
    assert smallest_memory(listed, ("0", "1", "2")) == 24564 << 20
    assert smallest_memory(listed, ("0",)) == 81559 << 20
    assert smallest_memory(listed, ("2",)) is None
    assert smallest_memory("", ()) is None
