"""A trained policy as a checkpoint folder: written aside, and renamed when it is whole."""

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

from hsstar.engines.loading import load_policy
from hsstar.engines.training.resume import settle, settle_folder

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
"""Files that training does not change: a checkpoint inherits them from its parent byte by byte."""

_CPU = torch.device("cpu")


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """A working folder beside `output`; its `checkpoint` becomes `output` at the end, or nothing does.

    A checkpoint that is there already, from a repetition of the same job, is replaced.
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
            settle(folder / "checkpoint")
            if output.exists():
                output.rename(folder / "replaced")
            (folder / "checkpoint").rename(output)
            settle_folder(output.parent)
    finally:
        if state.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)


def save_policy(trainer: Any, policy: Path, dtype: torch.dtype, folder: Path) -> None:
    """Writes the trained model into `folder/checkpoint` in this number format; every rank calls this.

    Adapters are merged into the weights of the policy. Files other than weights and configuration are
    the policy's.
    """
    checkpoint = folder / "checkpoint"
    trainer.processing_class = None
    adapters = hasattr(trainer.model, "peft_config")
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    raw = folder / "trained" if adapters or sharded else checkpoint
    if raw == checkpoint:
        trainer.model.to(dtype)
    trainer.save_model(str(raw))
    if not PartialState().is_main_process:
        return
    if adapters:
        _merge(policy, raw, dtype, checkpoint)
    elif sharded:
        _write(load_policy(raw, _CPU, dtype), checkpoint)
    for written in ("generation_config.json", "training_args.bin"):
        (checkpoint / written).unlink(missing_ok=True)
    for name in _KEPT_FILES:
        if (policy / name).is_file():
            shutil.copy2(policy / name, checkpoint / name)


def _merge(policy: Path, adapters: Path, dtype: torch.dtype, checkpoint: Path) -> None:
    """The policy's own weights with the adapters added, whatever format they were trained under."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_policy(policy, _CPU, torch.float32), str(adapters))
    _write(merged.merge_and_unload().to(dtype), checkpoint)


def _write(model: Any, checkpoint: Path) -> None:
    model.generation_config = GenerationConfig()  # the parent's may be one that is refused
    model.save_pretrained(checkpoint)
