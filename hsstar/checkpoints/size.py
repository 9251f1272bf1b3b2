"""How many parameters a checkpoint has, if it is on this machine; nothing is loaded or downloaded."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

from hsstar.checkpoints.files import weight_files
from hsstar.checkpoints.resolve import cached_checkpoint, resolve
from hsstar.checkpoints.tensors import tensor_shapes
from hsstar.data.hub import is_model_name

_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)[bB](?![A-Za-z0-9])")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model.

    Attributes:
        folder: where it is; None for a hub name that is not in the local cache.
        parameters: how many; None where neither files nor name say.
        by_name: whether the count is only what the name says, `7B` for instance.
    """

    folder: Path | None
    parameters: int | None
    by_name: bool


def model_size(name: str) -> ModelSize:
    """The size of a checkpoint; names as in `checkpoints.resolve`.

    Raises:
        CheckpointError: it is a folder that is not there, or one without weights.
    """
    folder = cached_checkpoint(name) if is_model_name(name) else resolve(name)
    if folder is None:
        return ModelSize(None, _by_name(name), True)
    counted = _count(weight_files(folder))
    return ModelSize(folder, counted if counted is not None else _by_name(name), counted is None)


def _by_name(name: str) -> int | None:
    found = _SIZE_IN_NAME.findall(name.rpartition("/")[2])
    return round(float(found[-1]) * 1e9) if found else None


def _count(files: list[Path]) -> int | None:
    """Count the elements of all tensors by the headers of safetensors files; None for other files."""
    if any(file.suffix != ".safetensors" for file in files):
        return None
    return sum(math.prod(shape) for file in files for shape in tensor_shapes(file).values())
