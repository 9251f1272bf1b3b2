"""Whether a training's files fit on the disk, asked before it begins."""

import shutil
from pathlib import Path

from hsstar.domain.errors import EngineError

_OPTIMISER_BYTES = 12
"""Of an intermediate checkpoint per trained parameter: the weight and Adam's two moments in float32."""
_CHECKPOINTS_AT_ONCE = 2
"""One is being written while the one before it still stands."""
_MARGIN = 1 << 26
"""Bytes for whatever is small: tokenizers, states, logs."""


def training_bytes(parameters: int, trained: int, bytes_per_weight: int, *, saves: bool) -> tuple[int, int]:
    """(bytes of the result, bytes of intermediate checkpoints) of a training.

    Args:
        parameters: of the model.
        trained: those that are trained; fewer where adapters are.
        bytes_per_weight: of the saved checkpoint's number format.
        saves: whether intermediate checkpoints are written.
    """
    adapters = 4 * trained if trained < parameters else 0
    between = _CHECKPOINTS_AT_ONCE * _OPTIMISER_BYTES * trained if saves else 0
    return parameters * bytes_per_weight + adapters + _MARGIN, between


def check_space(folder: Path, result: int, between: int) -> None:
    """Refuses to begin what would end on a full disk.

    Raises:
        EngineError: one line with what is needed and what is free.
    """
    free = shutil.disk_usage(folder).free
    if free < result + between:
        advice = ", or set training.save_every_steps = 0" if between and free >= result else ""
        raise EngineError(
            f"no room to train: {folder} has {_shown(free)} free, and the new policy takes {_shown(result)}, "
            f"its intermediate checkpoints {_shown(between)}; free space, or set HSSTAR_MODELS_DIR{advice}"
        )


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB"
