"""Loads and writes policies: whole checkpoints, and adapters beside their base, merged or to be trained."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from hsstar.checkpoints.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from hsstar.checkpoints.files import read_json
from hsstar.checkpoints.resolve import weights_folder
from hsstar.checkpoints.tensors import tensor_names
from hsstar.domain.errors import CheckpointError, EngineError
from hsstar.engines.loading import load_model


def load_policy(path: Path, device: torch.device, dtype: torch.dtype) -> Any:
    """Load the causal language model of a checkpoint folder; errors as in `load_model`.

    An adapter stays apart, in float32, so that nothing of it is lost in the format of its base.
    """
    base = weights_folder(path)
    model = load_model(AutoModelForCausalLM, base, device, dtype)
    if base != path:
        _put_on(model, path)
    return model


def load_merged(path: Path, device: torch.device, dtype: torch.dtype, **options: Any) -> Any:
    """Load the same policy as one model; an adapter is added to the weights in float32.

    `options` go to `from_pretrained`. Raise EngineError if they quantise the base of an adapter.
    """
    base = weights_folder(path)
    if base == path:
        return load_model(AutoModelForCausalLM, path, device, dtype, **options)
    if options:
        raise EngineError(
            f"training.quantization = '4bit' merges no adapter, and {path} is one; set training.lora_merge "
            "to false, or start from a whole checkpoint (hsstar models export NAME FOLDER)"
        )
    model = load_model(AutoModelForCausalLM, base, torch.device("cpu"), torch.float32)
    merged = _put_on(model, path).merge_and_unload().requires_grad_(True)  # PEFT freezes the base
    return merged.to(device=device, dtype=dtype).eval()


def load_to_continue(
    path: Path, device: torch.device, dtype: torch.dtype, config: Any, **options: Any
) -> Any:
    """Load an adapter that training continues, on its frozen base; `config` is PEFT's for the new adapter.

    Raise CheckpointError if the adapter has another rank or scale, or is on other layers.
    """
    stored = read_json(path / ADAPTER_CONFIG)
    if (stored.get("r"), stored.get("lora_alpha")) != (config.r, config.lora_alpha):
        raise CheckpointError(
            f"{path} has an adapter of rank {stored.get('r')} and alpha {stored.get('lora_alpha')}, and the "
            "next policy continues it: set lora_rank and lora_alpha to these, or lora_merge to true"
        )
    model = load_model(AutoModelForCausalLM, weights_folder(path), device, dtype, **options)
    return _put_on(model, path, is_trainable=True, config=config)


def _put_on(model: Any, path: Path, **options: Any) -> Any:
    """Put the adapter of a folder on a model, in place; return PEFT's wrapper."""
    from peft import PeftModel, get_peft_model_state_dict

    try:
        adapted = PeftModel.from_pretrained(model, str(path), **options)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its adapter cannot be loaded: {error}") from error
    placed = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if odd := sorted(placed ^ tensor_names(path / ADAPTER_WEIGHTS)):
        raise CheckpointError(
            f"{path}: its adapter is on other layers than lora_target_modules names or the model has: "
            f"{odd[0]}"
        )
    return adapted


def write_merged(path: Path, folder: Path) -> None:
    """Write weights and configuration of a policy into a folder, its adapter merged, in float32."""
    write_model(load_merged(path, torch.device("cpu"), torch.float32), folder)
    keep_configuration(path, folder)


def write_model(model: Any, folder: Path) -> None:
    """Write the weights of a model, and a configuration, into a folder."""
    model.generation_config = GenerationConfig()  # transformers refuses some policies' own
    model.save_pretrained(folder)


def keep_configuration(policy: Path, checkpoint: Path) -> None:
    """Write the policy's own configuration: training changes settings that it needs itself (`use_cache`).

    Only the format of the weights is that of the checkpoint.
    """
    config, written = read_json(policy / "config.json"), read_json(checkpoint / "config.json")
    for key in ("dtype", "torch_dtype", "quantization_config"):
        config.pop(key, None)
        if key in written:
            config[key] = written[key]
    text = json.dumps(config, indent=2, sort_keys=True)
    (checkpoint / "config.json").write_text(text + "\n", encoding="utf-8")
