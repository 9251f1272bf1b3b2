"""Single tensors out of a checkpoint, whatever the file layout: whole or sharded, safetensors or .bin."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from hsstar.domain.errors import CheckpointError
from hsstar.engines.checkpoint_files import weight_files


def read_tensors(path: Path, names: Sequence[str]) -> list[Tensor]:
    """The named tensors of a checkpoint folder, in order, float32 on the CPU.

    Raises:
        CheckpointError: one of them is not in the checkpoint.
    """
    found: dict[str, Tensor] = {}
    for file in weight_files(path):
        found |= _read_file(file, set(names) - found.keys())
        if len(found) == len(names):
            return [found[name] for name in names]
    missing = ", ".join(name for name in names if name not in found)
    raise CheckpointError(f"{path}: the checkpoint has no tensor {missing}")


def _read_file(file: Path, wanted: set[str]) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name).float() for name in wanted & set(tensors.keys())}
    stored = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return {name: stored[name].float() for name in wanted & stored.keys()}
