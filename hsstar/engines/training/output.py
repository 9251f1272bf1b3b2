"""Writes a trained policy aside and renames the folder when it is whole."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from hsstar.checkpoints.adapters import ADAPTER_CONFIG, ADAPTER_WEIGHTS, Base, read_base, write_base
from hsstar.checkpoints.files import KEPT_FILES, fingerprint, fsync_folder, fsync_tree
from hsstar.domain.rounding import WeightUpdate
from hsstar.engines.policies import keep_configuration, load_merged, write_model
from hsstar.engines.training.contract import TrainingTask
from hsstar.engines.training.rounding import save_adapter_as, save_as

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
    trainer: Any, task: TrainingTask, device: torch.device, folder: Path
) -> tuple[WeightUpdate, ...]:
    """Write the trained model into `folder/checkpoint` as the settings say; every rank calls this.

    Adapters are merged, or kept beside their base. All files but weights and configuration are copies of the
    policy's. Return what changed in the weights, on the first rank only.
    """
    policy, checkpoint = task.policy, folder / "checkpoint"
    trainer.processing_class = None
    adapters = hasattr(trainer.model, "peft_config")
    sharded = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    raw = folder / "trained" if adapters or sharded else checkpoint
    trainer.save_model(str(raw))
    if not PartialState().is_main_process:
        return ()
    if task.keeps_adapters:
        _keep_adapters(task, raw, checkpoint)
    elif adapters:
        _merge(policy, raw, checkpoint)
    elif sharded:
        write_model(load_merged(raw, _CPU, torch.float32), checkpoint)
    if not task.keeps_adapters:
        keep_configuration(policy, checkpoint)
    for written in ("generation_config.json", "training_args.bin"):
        (checkpoint / written).unlink(missing_ok=True)
    for name in KEPT_FILES:
        if (policy / name).is_file():
            shutil.copy2(policy / name, checkpoint / name)
    save = save_adapter_as if task.keeps_adapters else save_as
    return save(policy, checkpoint, task.settings, device)


def _keep_adapters(task: TrainingTask, adapters: Path, checkpoint: Path) -> None:
    """Write adapters without their base, with its location and its configuration."""
    checkpoint.mkdir()
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        shutil.copy2(adapters / name, checkpoint / name)
    shutil.copy2(task.policy / "config.json", checkpoint / "config.json")
    base = read_base(task.policy)
    write_base(checkpoint, base or Base(task.location or str(task.policy), fingerprint(task.policy)))


def _merge(policy: Path, adapters: Path, checkpoint: Path) -> None:
    """Add the adapters to the policy's own weights, not to the quantised weights of the training."""
    from peft import PeftModel

    merged = PeftModel.from_pretrained(load_merged(policy, _CPU, torch.float32), str(adapters))
    write_model(merged.merge_and_unload(), checkpoint)
