"""Writes a trained policy aside and renames the folder when it is whole."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from transformers import GenerationConfig

from hsstar.checkpoints.files import fsync_folder, fsync_tree, read_json
from hsstar.domain.rounding import WeightUpdate
from hsstar.engines.loading import load_policy
from hsstar.engines.training.contract import TrainingSettings
from hsstar.engines.training.rounding import save_as

_KEPT_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files that training does not change: a checkpoint gets the bytes of its parent."""

_CPU = torch.device("cpu")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """Make a working folder beside `output`; its `checkpoint` becomes `output` if the block succeeds.

    It replaces the checkpoint of an earlier attempt at the same job.
    """
    state = PartialState()
    output.parent.mkdir(parents=True, exist_ok=True)
    names = [""]
    if state.is_main_process:
        names = [tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent)]
    folder = Path(broadcast_object_list(names)[0])
    try:
        yield folder
        state.wait_for_everyone()
        if state.is_main_process:
            fsync_tree(folder / "checkpoint")
            if output.exists():
                output.rename(folder / "replaced")
            (folder / "checkpoint").rename(output)
            fsync_folder(output.parent)
    finally:
        if state.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)


def save_policy(
    trainer: Any, policy: Path, settings: TrainingSettings, device: torch.device, folder: Path
) -> tuple[WeightUpdate, ...]:
    """Write the trained model into `folder/checkpoint` as the settings say; every rank calls this.

    Adapters are merged. All files but weights and configuration are copies of the policy's. Return what
    changed in the weights, on the first rank only.
    """
    checkpoint = folder / "checkpoint"
    trainer.processing_class = None
    adapters = hasattr(trainer.model, "peft_config")
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    raw = folder / "trained" if adapters or sharded else checkpoint
    trainer.save_model(str(raw))
    if not PartialState().is_main_process:
        return ()
    if adapters:
        _merge(policy, raw, checkpoint)
    elif sharded:
        _write(load_policy(raw, _CPU, torch.float32), checkpoint)
    _keep_configuration(policy, checkpoint)
    for written in ("generation_config.json", "training_args.bin"):
        (checkpoint / written).unlink(missing_ok=True)
    for name in _KEPT_FILES:
        if (policy / name).is_file():
            shutil.copy2(policy / name, checkpoint / name)
    return save_as(policy, checkpoint, settings, device)


def _keep_configuration(policy: Path, checkpoint: Path) -> None:
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


def _merge(policy: Path, adapters: Path, checkpoint: Path) -> None:
    """Add the adapters to the policy's own weights, not to the quantised weights of the training."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_policy(policy, _CPU, torch.float32), str(adapters))
    _write(merged.merge_and_unload(), checkpoint)


def _write(model: Any, checkpoint: Path) -> None:
    model.generation_config = GenerationConfig()  # transformers refuses some policies' own
    model.save_pretrained(checkpoint)
