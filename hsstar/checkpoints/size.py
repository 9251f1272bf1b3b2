"""Counts the parameters of a checkpoint without loading or downloading it."""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from hsstar.checkpoints.files import weight_files
from hsstar.checkpoints.resolve import cached_checkpoint, resolve, weights_folder
from hsstar.checkpoints.tensors import in_block, tensor_shapes
from hsstar.data.hub import is_model_name

_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model: the folder of its whole weights (None if not local), and parameters without an
    adapter's, perhaps `by_name` only (`7B`).
    """

    folder: Path | None
    parameters: int | None
    by_name: bool


def model_size(name: str) -> ModelSize:
    """Return the size of a checkpoint named as in `resolve`; raise CheckpointError without weights."""
    folder = cached_checkpoint(name) if is_model_name(name) else resolve(name)
    if folder is None:
        return ModelSize(None, _by_name(name), True)
    folder = weights_folder(folder)
    counted = _count(weight_files(folder))
    return ModelSize(folder, counted if counted is not None else _by_name(name), counted is None)


def adapter_parameters(folder: Path, rank: int, layers: Collection[str]) -> int | None:
    """Return the parameters of an adapter on these layers, all linear ones if none; None if not known."""
    files = weight_files(folder)
    if any(file.suffix != ".safetensors" for file in files):
        return None
    shapes = {name: shape for file in files for name, shape in tensor_shapes(file).items()}
    adapted = [
        shape
        for name, shape in shapes.items()
        if len(shape) == 2 and in_block(name) and (not layers or name.split(".")[-2] in layers)
    ]
    return sum(rank * sum(shape) for shape in adapted)


def _by_name(name: str) -> int | None:
    sizes = _SIZE_IN_NAME.findall(name.rpartition("/")[2])
    return round(float(sizes[-1]) * 1e9) if sizes else None


def _count(files: list[Path]) -> int | None:
    """Count the elements of all tensors by the headers of safetensors files; None for other files."""
    if any(file.suffix != ".safetensors" for file in files):
        return None
    return sum(math.prod(shape) for file in files for shape in tensor_shapes(file).values())


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
