"""Models load whole and in the wanted format, also when several threads of a process load them at once."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from hsstar.data.builtins import builtin_checkpoints
from hsstar.domain.errors import CheckpointError
from hsstar.engines.device import clear_memory, gpu_is_lost
from hsstar.engines.loading import load_policy, load_tokenizer, pick_device, pick_dtype, read_tensors


def load(path: Path) -> Any:
    return load_policy(path, torch.device("cpu"), torch.float32)


def test_tied_weights_stay_tied_whatever_else_is_loading() -> None:
    with ThreadPoolExecutor(4) as threads:
        models = list(threads.map(load, [builtin_checkpoints()["builtin:demo-policy"]] * 12))
    assert all(model.lm_head.weight is model.model.embed_tokens.weight for model in models)
    assert not any(model.training for model in models)


@pytest.mark.parametrize("gpu", [True, False])
def test_a_device_and_a_format_are_chosen_by_default(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    device = pick_device("auto")
    assert device.type == ("cuda" if gpu else "cpu")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_dtype("auto", device) == (torch.bfloat16 if gpu else torch.float32)
    for name in ("float32", "bfloat16", "float16"):
        assert pick_dtype(name, device) == getattr(torch, name)


def test_a_gpu_is_lost_when_it_answers_with_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    freed: list[bool] = []
    monkeypatch.setattr(torch.cuda, "synchronize", fail)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(True))
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert gpu_is_lost()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [True])
    monkeypatch.delitem(sys.modules, "torch")
    clear_memory()
    assert (gpu_is_lost(), freed) == (False, [True])


def test_what_cannot_be_loaded_is_named(policy: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the checkpoint has no tensor one, two"):
        read_tensors(policy, ["model.norm.weight", "one", "two"])
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="its tokenizer cannot be loaded"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="its weights cannot be loaded"):
        load(tmp_path)
