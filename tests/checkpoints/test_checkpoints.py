"""A broken checkpoint is refused before anything runs, in one line that says what is wrong."""

import json
import shutil
import subprocess
import sys
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from hsstar.checkpoints.resolve import (
    CheckpointInfo,
    check_policy,
    check_reward_model,
    fingerprint,
    resolve,
)
from hsstar.checkpoints.tensors import tensor_names
from hsstar.data.builtins import builtin_checkpoints
from hsstar.domain.errors import CheckpointError
from tests.engines import tiny
from tests.engines.conftest import SKYWORK_LAYOUTS


@pytest.fixture
def copy(policy: Path, tmp_path: Path) -> Path:
    """A policy that a test may break."""
    return shutil.copytree(policy, tmp_path / "copy")


WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD = "model-00001-of-00002.safetensors"
SHARDS = json.dumps({"weight_map": {"model.norm.weight": SHARD}}).encode()
BERT = b'{"architectures": ["BertForMaskedLM"]}'


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"config.json": None}, "no config.json"),
        ({"config.json": b"{"}, "cannot be read as JSON"),
        ({"config.json": b"[]"}, "JSON object"),
        ({"config.json": BERT}, "BertForMaskedLM is not a causal language model"),
        ({"config.json": b"{}"}, r"\(no architecture named\) is not a causal"),
        ({"tokenizer.json": None}, "no tokenizer"),
        ({"tokenizer.json": b"{"}, "tokenizer.json cannot"),
        ({"generation_config.json": b"{"}, "generation_config.json cannot"),
        ({WEIGHTS: None}, "no weights"),
        ({WEIGHTS: b""}, "cut off"),
        ({WEIGHTS: (5).to_bytes(8, "little") + b"{not "}, "header is broken"),
        ({WEIGHTS: None, INDEX: SHARDS}, f"{SHARD}, which is missing"),
        ({WEIGHTS: None, INDEX: b"{}"}, "no weight_map"),
        ({WEIGHTS: None, "pytorch_model.bin": b"PK\x03\x04 cut off"}, "no PyTorch archive"),
    ],
)
def test_a_damaged_policy_is_refused(copy: Path, files: dict[str, bytes | None], message: str) -> None:
    for name, content in files.items():
        (copy / name).unlink(missing_ok=True)
        if content is not None:
            (copy / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        check_policy(copy)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


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
    assert fingerprint(policy) == fingerprint(copy)
    assert fingerprint(policy) != fingerprint(other)  # same names, sizes and headers


def test_a_large_file_is_named_by_blocks_of_it(copy: Path) -> None:
    (copy / WEIGHTS).write_bytes(bytes(80 << 20))
    before = fingerprint(copy)
    with (copy / WEIGHTS).open("r+b") as content:
        content.seek((80 << 20) - 10)
        content.write(b"changed")
    assert fingerprint(copy) != before


@pytest.mark.parametrize(
    "name", ["nowhere", "/no/such/folder", "builtin:other", "./a/b", "a/b/c", "", "nobody/nothing"]
)
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


def test_the_packaged_checkpoints_have_names() -> None:
    for name, folder in builtin_checkpoints().items():
        assert resolve(name) == folder
        assert folder.parent.name == "demo"


def test_the_names_in_a_single_bin_file_are_read_without_unpickling(tmp_path: Path) -> None:
    tied = torch.nn.Parameter(torch.zeros(2, 3))
    state = {"embed.weight": tied, "norm.bias": torch.ones(4), "head.weight": tied, "0": torch.ones(1).half()}
    file = tmp_path / "pytorch_model.bin"
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    for saved in (state, OrderedDict(state), module, {"only": torch.ones(2)}):
        torch.save(saved, file)
        assert tensor_names(file) == set(torch.load(file, weights_only=True)) == set(saved)


def test_looking_at_a_checkpoint_does_not_import_pytorch(policy: Path) -> None:
    script = (
        "import sys\n"
        "from hsstar.engines import registry\n"
        "from hsstar.checkpoints.resolve import check_policy, fingerprint\n"
        f"check_policy({str(policy)!r}), fingerprint({str(policy)!r})\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'huggingface_hub')))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
