"""How many parameters a checkpoint has, if it is on this machine; nothing is loaded or downloaded."""

import json
import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from hsstar.engines.checkpoint_files import weight_files
from hsstar.engines.checkpoints import cached_on_this_machine, is_hub_name, resolve

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
    folder = cached_on_this_machine(name) if is_hub_name(name) else resolve(name)
    if folder is None:
        return ModelSize(None, _by_name(name), True)
    counted = _count(weight_files(folder))
    return ModelSize(folder, counted if counted is not None else _by_name(name), counted is None)


def _by_name(name: str) -> int | None:
    found = _SIZE_IN_NAME.findall(name.rpartition("/")[2])
    return round(float(found[-1]) * 1e9) if found else None


def _count(files: list[Path]) -> int | None:
    """The elements of all tensors by the headers of safetensors files; None for other files."""
    if any(file.suffix != ".safetensors" for file in files):
        return None
    return sum(_elements(file) for file in files)


def _elements(file: Path) -> int:
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        header = json.loads(content.read(length))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
