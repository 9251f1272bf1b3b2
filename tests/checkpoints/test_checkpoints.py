"""A broken checkpoint is refused before anything runs, and a training whose files will not fit."""

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from hsstar.checkpoints.disk_space import bytes_text, check_space, disk_space, training_bytes
from hsstar.checkpoints.resolve import CheckpointInfo, check_policy, check_reward_model, fingerprint, resolve
from hsstar.checkpoints.tensors import tensor_names
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.engines.training.arguments import pace_of_saves
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS
from tests.engines.trainings import SETTINGS


@pytest.fixture
def copy(policy: Path, tmp_path: Path) -> Path:
    """A policy that a test may break."""
    return shutil.copytree(policy, tmp_path / "copy")


WEIGHTS = "model.safetensors"
DAMAGES = [json.loads(line) for line in Path(__file__).with_name("damages.jsonl").read_text().splitlines()]
"""New contents of files, null without the file, and what is said of it."""


@pytest.mark.parametrize(("files", "message"), DAMAGES, ids=[message for _, message in DAMAGES])
def test_a_damaged_policy_is_refused(copy: Path, files: dict[str, str | None], message: str) -> None:
    for name, content in files.items():
        (copy / name).unlink(missing_ok=True)
        if content is not None:
            (copy / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_policy(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("lost", "named"),
    [(".layers.1.", "model.layers.1."), ("layers.0.mlp.up_proj.", "model.layers.0.mlp.up_proj.weight")],
)
def test_a_policy_without_a_layer_or_a_part_of_one_is_refused(tmp_path: Path, lost: str, named: str) -> None:
    policy = tiny.tiny_policy(tmp_path / "policy", num_hidden_layers=4)
    whole = load_file(policy / WEIGHTS)
    save_file({name: tensor for name, tensor in whole.items() if lost not in name}, policy / WEIGHTS)
    with pytest.raises(CheckpointError, match=rf"\d+ tensors are missing, such as {named}.*; is the copy"):
        check_policy(policy)


def test_half_a_sharded_policy_is_refused_until_it_is_mended(policy: Path, copy: Path) -> None:
    whole = load_file(copy / WEIGHTS)
    (copy / WEIGHTS).unlink()
    parts = [*whole][::2], [*whole][1::2]
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for names, shard in zip(parts, shards, strict=True):
        save_file({name: whole[name] for name in names}, copy / shard)
    index = copy / f"{WEIGHTS}.index.json"

    def refused(message: str, *files: list[str]) -> None:
        where = {name: shard for names, shard in zip(files, shards, strict=False) for name in names}
        index.write_text(json.dumps({"weight_map": where}))
        with pytest.raises(CheckpointError, match=message):
            check_policy(copy)

    refused(rf"index.json is incomplete: it does not name {shards[1]}", parts[0])
    refused(r"1 tensors are missing, such as lost;", [*parts[0], "lost"], parts[1])
    index.unlink()
    with pytest.raises(CheckpointError, match=f"{shards[0]} and others lie there without their index"):
        check_policy(copy)
    index.write_text(
        json.dumps({"weight_map": dict.fromkeys(parts[0], shards[0]) | dict.fromkeys(parts[1], shards[1])})
    )
    assert check_policy(copy).architecture == check_policy(policy).architecture


def test_an_adapter_alone_is_named(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "some/base"}')
    with pytest.raises(CheckpointError, match=r"an adapter alone; merge it into its base model some/base"):
        check_policy(tmp_path)


@pytest.mark.parametrize("change", [-100, -1, 1])
def test_weights_that_are_cut_off_or_too_long_are_refused(copy: Path, change: int) -> None:
    weights = copy / WEIGHTS
    weights.write_bytes((weights.read_bytes() + b"0")[: weights.stat().st_size + change])
    with pytest.raises(CheckpointError, match=r"cut off: \d+ bytes where its header announces"):
        check_policy(copy)


def test_a_policy_is_recognised(policy: Path) -> None:
    size = (policy / WEIGHTS).stat().st_size
    assert check_policy(policy) == CheckpointInfo(policy, "policy", "Qwen2ForCausalLM", 256, size)
    with pytest.raises(CheckpointError, match="no reward head"):
        check_reward_model(policy)
    assert check_reward_model(policy, "outcome").family == "outcome"  # missing weights show when it is loaded


@pytest.mark.parametrize("layout", SKYWORK_LAYOUTS.values(), ids=SKYWORK_LAYOUTS)
def test_skywork_is_recognised_in_every_layout(tmp_path: Path, layout: dict[str, Any]) -> None:
    path = tiny.tiny_skywork(tmp_path, **layout)
    assert check_reward_model(path).family == check_reward_model(path, "skywork").family == "skywork"
    for check, message in (
        (partial(check_reward_model, kind="qwen-math"), "of the kind skywork, not qwen-math"),
        (partial(check_reward_model, engine="vllm"), r"vllm does not .* kind skywork; transformers does"),
        (check_policy, "process reward model"),
    ):
        with pytest.raises(CheckpointError, match=message):
            check(path)


def test_other_reward_models_are_recognised(qwen_math: Path, tmp_path: Path) -> None:
    assert check_reward_model(qwen_math).family == "qwen-math"
    assert check_reward_model(qwen_math, engine="vllm").family == "qwen-math"
    assert check_reward_model(tiny.tiny_classifier(tmp_path, labels=1)).family == "outcome"


def test_a_fingerprint_names_the_content(policy: Path, copy: Path, tmp_path: Path) -> None:
    other = tiny.tiny_policy(tmp_path / "other", seed=1)
    assert fingerprint(policy) == fingerprint(copy) != fingerprint(other)  # same names, sizes and headers


def test_a_large_file_is_named_by_blocks_of_it(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes(bytes(80 << 20))
    before = fingerprint(copy)
    with (copy / WEIGHTS).open("r+b") as content:
        content.seek((80 << 20) - 10)
        content.write(b"changed")
    assert fingerprint(copy) != before


@pytest.mark.parametrize("name", ["nowhere", "/none", "builtin:other", "./a/b", "a/b/c", "", "nobody/none"])
def test_an_unknown_name_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(CheckpointError, match=name or "''") as caught:
        resolve(name)
    assert "\n" not in str(caught.value)


def test_a_hub_name_is_found_in_the_local_cache(policy: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--some--policy"
    snapshot = shutil.copytree(policy, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(snapshot.name)
    script = "from hsstar.checkpoints.resolve import resolve; print(resolve('some/policy'))"
    environment = {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": ""}
    found = subprocess.check_output([sys.executable, "-c", script], env=environment, text=True)
    assert found == f"{snapshot}\n"


def test_the_names_in_a_single_bin_file_are_read_without_unpickling(tmp_path: Path) -> None:
    tied = torch.nn.Parameter(torch.zeros(2, 3))
    state = {"embed.weight": tied, "norm.bias": torch.ones(4), "head.weight": tied, "0": torch.ones(1).half()}
    file = tmp_path / "pytorch_model.bin"
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    for saved in (state, OrderedDict(state), module, {"only": torch.ones(2)}):
        torch.save(saved, file)
        assert tensor_names(file) == set(torch.load(file, weights_only=True)) == set(saved)


def test_whole_weights_need_their_optimiser_state_twice_and_adapters_little_besides_the_result() -> None:
    result, between = training_bytes(7_600_000_000, 7_600_000_000, 2, saves=True)
    assert result == pytest.approx(15.2e9, rel=0.01)
    assert between == 2 * 12 * 7_600_000_000
    assert training_bytes(7_600_000_000, 7_600_000_000, 2, saves=False) == (result, 0)
    result, between = training_bytes(7_600_000_000, 40_000_000, 2, saves=True)
    assert result == pytest.approx(15.4e9, rel=0.01)
    assert between < 1e9


def test_a_full_disk_is_one_line_with_what_is_needed(tmp_path: Path) -> None:
    check_space(tmp_path, 1, 1)
    with pytest.raises(EngineError, match=r"no room to train: .* takes 0\.001 kB, its inter") as refused:
        check_space(tmp_path, 1, 10**18)
    assert "save_every_steps = 0" in str(refused.value)
    with pytest.raises(EngineError, match=r"takes 1,000,000 TB") as refused:
        check_space(tmp_path, 10**18, 1)
    assert "save_every_steps" not in str(refused.value)


def test_a_folder_that_does_not_exist_yet_has_the_space_of_its_parent(tmp_path: Path) -> None:
    space = disk_space(tmp_path / "not" / "made" / "yet")
    assert space.folder == tmp_path
    assert 0 < space.free <= space.total


def test_bytes_are_shown_in_a_fitting_unit() -> None:
    texts = [bytes_text(count) for count in (3.2e12, 999.8e9, 126e9, 16.4e6, 900)]
    assert texts == ["3.2 TB", "1,000 GB", "126 GB", "16.4 MB", "0.9 kB"]


def test_a_training_is_saved_ten_times_unless_the_settings_say_otherwise() -> None:
    assert [pace_of_saves(SETTINGS, steps) for steps in (95, 3)] == [(10, 30.0), (1, 30.0)]
    paces = [pace_of_saves(replace(SETTINGS, save_every_steps=every), 95) for every in (7, 0)]
    assert paces == [(7, 0.0), (0, 0.0)]
