"""Checkpoints that are a LoRA adapter beside its base: what their folders hold.

    M2/
        adapter_config.json, adapter_model.safetensors    in PEFT's layout
        hsstar_base.json                                  where the base is, and its fingerprint
        config.json, tokenizer.json …                     as the base has them

The base is whole, never an adapter itself. `resolve.weights_folder` finds it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hsstar.checkpoints.files import content_digest, read_json
from hsstar.checkpoints.tensors import tensor_shapes
from hsstar.domain.errors import CheckpointError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FILE = "hsstar_base.json"
_BASE_KEY = "base_model_name_or_path"
_FACTORS = (".lora_A.weight", ".lora_B.weight")
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Base:
    """The whole checkpoint that an adapter needs: its location as in `resolve`, and its fingerprint."""

    location: str
    fingerprint: str


def read_base(folder: Path) -> Base | None:
    """Return the base of an adapter; None for a whole checkpoint. Raise CheckpointError if it is broken."""
    if not (folder / BASE_FILE).is_file():
        return None
    try:
        return Base(**read_json(folder / BASE_FILE))
    except TypeError:
        raise CheckpointError(f"{folder / BASE_FILE} does not say location and fingerprint alone") from None


def write_base(folder: Path, base: Base) -> None:
    """Write down the base of an adapter, for hsstar and for PEFT."""
    (folder / BASE_FILE).write_text(json.dumps(asdict(base)) + "\n", encoding="utf-8")
    config = read_json(folder / ADAPTER_CONFIG) | {_BASE_KEY: base.location}
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def move_base(folder: Path, before: str, after: str) -> None:
    """Give an adapter the new place of its base, if that lay below a folder that has moved."""
    base = read_base(folder)
    if base is not None and base.location.startswith(f"{before}/"):
        write_base(folder, Base(after + base.location.removeprefix(before), base.fingerprint))


def adapter_fingerprint(folder: Path, base: Base) -> str:
    """Return 32 hex digits that digest adapter and base; where the base lies does not count."""
    config = {key: value for key, value in read_json(folder / ADAPTER_CONFIG).items() if key != _BASE_KEY}
    return content_digest([config, base.fingerprint], [folder / ADAPTER_WEIGHTS])


def adapter_rank(folder: Path) -> int:
    """Return the rank of the adapter in a folder."""
    return int(read_json(folder / ADAPTER_CONFIG)["r"])


def adapter_scale(folder: Path) -> float:
    """Return what the product of an adapter's two factors is multiplied by."""
    config = read_json(folder / ADAPTER_CONFIG)
    return float(config["lora_alpha"]) / float(config["r"])


def check_adapter(folder: Path) -> None:
    """Raise CheckpointError if this is no plain LoRA adapter, or its weights are missing, cut off or odd."""
    config: dict[str, Any] = read_json(folder / ADAPTER_CONFIG)
    if config.get("peft_type") != "LORA" or config.get("rank_pattern") or config.get("use_rslora"):
        raise CheckpointError(f"{folder}: only LoRA adapters of one rank and scale are known")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: no {ADAPTER_WEIGHTS}")
    shapes = tensor_shapes(folder / ADAPTER_WEIGHTS)
    for layer in adapted_layers(shapes):
        down, up = (shapes.get(name, (0, 0)) for name in factor_names(layer))
        if not down[0] == up[-1] == config.get("r"):
            raise CheckpointError(f"{folder}: the adapter of {layer} has not the rank {config.get('r')}")


def adapted_layers(tensors: Any) -> list[str]:
    """Return the layers of the base that have an adapter, by the names of an adapter's tensors, sorted."""
    ends = tuple(name for name in tensors for factor in _FACTORS if name.endswith(factor))
    return sorted({name.removeprefix(_PREFIX).rpartition(".lora_")[0] for name in ends})


def factor_names(layer: str) -> tuple[str, str]:
    """Return the names of the tensors A (rank × inputs) and B (outputs × rank) of a layer."""
    down, up = (f"{_PREFIX}{layer}{factor}" for factor in _FACTORS)
    return down, up
