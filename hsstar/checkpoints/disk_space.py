"""How much room a disk has, and whether the files of a training fit."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hsstar.domain.errors import EngineError

_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"))
_OPTIMISER_BYTES = 12
"""Of an intermediate checkpoint per trained parameter: the weight and Adam's two moments in float32."""
_CHECKPOINTS_AT_ONCE = 2
"""A new checkpoint is written while the last one still exists."""
_MARGIN = 1 << 26
"""Bytes for small files: tokenizers, states, logs."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """The bytes of a file system, and the existing folder on it that was looked at."""

    folder: Path
    free: int
    total: int


def disk_space(folder: Path) -> DiskSpace:
    """Return the space of the file system of a folder, which need not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    usage = shutil.disk_usage(existing)
    return DiskSpace(existing, usage.free, usage.total)


def bytes_text(count: float) -> str:
    """Return a number of bytes with three digits and a unit."""
    size, unit = next(((size, unit) for size, unit in _UNITS if count >= size), (1e3, "kB"))
    return f"{float(f'{count / size:.3g}'):,.10g} {unit}"


def training_bytes(parameters: int, trained: int, bytes_per_weight: int, *, saves: bool) -> tuple[int, int]:
    """Return the bytes of a training's result and intermediate checkpoints; adapters train fewer weights."""
    adapters = 4 * trained if trained < parameters else 0
    between = _CHECKPOINTS_AT_ONCE * _OPTIMISER_BYTES * trained if saves else 0
    return parameters * bytes_per_weight + adapters + _MARGIN, between


def check_space(folder: Path, result: int, between: int) -> None:
    """Raise EngineError if a training into this folder would fill the disk; arguments as `training_bytes`."""
    free = disk_space(folder).free
    if free < result + between:
        advice = ", or set training.save_every_steps = 0" if between and free >= result else ""
        raise EngineError(
            f"no room to train: {folder} has {bytes_text(free)} free, and the new policy takes "
            f"{bytes_text(result)}, its intermediate checkpoints {bytes_text(between)}; free space, or set "
            f"HSSTAR_MODELS_DIR{advice}"
        )
