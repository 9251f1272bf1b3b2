"""Broken copies of the demo's policy and reward model, each as people have brought them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hsstar.checkpoints.resolve import resolve

WEIGHTS = "model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
SHARDS = tuple(f"model-0000{number}-of-00002.safetensors" for number in (1, 2))
_META = {"format": "pt"}
_LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
_CONTENT = "{{ messages[-1]['content'] }}\n"


def make_broken_checkpoints(output: Path) -> None:
    """Write every one into a folder of its name."""
    policy, prm = resolve("builtin:demo-policy"), resolve("builtin:demo-prm")
    weights, rewards = load_file(policy / WEIGHTS), load_file(prm / WEIGHTS)

    def copy(source: Path, name: str) -> Path:
        return Path(shutil.copytree(source, output / name))

    whole = {name: tensor for name, tensor in weights.items() if ".layers.2." not in name}
    save_file(whole, copy(policy, "missing_layer") / WEIGHTS, _META)

    folder = copy(policy, "index_half")
    (folder / WEIGHTS).unlink()
    parts = halves(weights)
    for part, shard in zip(parts, SHARDS, strict=True):
        save_file({name: weights[name] for name in part}, folder / shard, _META)
    write_index(folder, dict.fromkeys(parts[0], SHARDS[0]))
    (copy(folder, "shards_without_index") / INDEX).unlink()

    spoil(copy(policy, "nan_policy"), weights, "layers.1.mlp.down_proj")
    spoil(copy(prm, "nan_prm"), rewards, "v_head.summary.bias")
    seven = json.loads((prm / "tokenizer.json").read_text())["model"]["vocab"]["7"]
    spoil(copy(prm, "nan_prm_for_sevens"), rewards, "embed_tokens", seven)

    _edit(copy(policy, "context_64") / "config.json", max_position_embeddings=64)
    on_star = "{% if '*' in messages[-1]['content'] %}" + _LOOP + "{% endif %}" + _CONTENT
    _edit(copy(policy, "template_loops_on_star") / "tokenizer_config.json", chat_template=on_star)
    _edit(copy(policy, "template_loops") / "tokenizer_config.json", chat_template=_LOOP + _CONTENT)

    adapter = output / "adapter"
    adapter.mkdir()
    description = {
        "base_model_name_or_path": "base",
        "peft_type": "LORA",
        "r": 8,
        "target_modules": ["q_proj"],
    }
    (adapter / "adapter_config.json").write_text(json.dumps(description))
    lora = {"base_model.model.lora_A.weight": torch.zeros(8, 128)}
    save_file(lora, adapter / "adapter_model.safetensors", _META)


def halves(weights: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The names of the tensors of each of two shards."""
    names = list(weights)
    return names[: len(names) // 2], names[len(names) // 2 :]


def mend_index(folder: Path) -> None:
    """Let the index of `index_half` name both shards."""
    write_index(folder, {name: shard for shard in SHARDS for name in load_file(folder / shard)})


def write_index(folder: Path, where: Mapping[str, str]) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict(where)}))


def spoil(folder: Path, weights: Mapping[str, torch.Tensor], part: str, row: int | None = None) -> None:
    """Put NaN into the first tensor of this name, or into one row of it."""
    name = next(name for name in weights if part in name)
    changed = weights[name].clone()
    changed[slice(None) if row is None else row] = float("nan")
    save_file({**weights, name: changed}, folder / WEIGHTS, _META)


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
