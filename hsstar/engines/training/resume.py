"""Intermediate checkpoints of a training: whole or absent, and used for their own training only.

    WORKSPACE/              all attempts at one training, beside the place of its result
        ATTEMPT/            only one attempt writes here
            writing/        half-written checkpoints
            step-12/        a whole checkpoint; training.json names its training
            removed/        folders to delete

An attempt adopts the furthest checkpoint of an earlier one: it renames the checkpoint into its own folder.
If that earlier attempt still runs, its next write fails.
Importing this module does not import PyTorch.
"""

import hashlib
import json
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from hsstar.checkpoints.files import fsync_folder, fsync_tree
from hsstar.checkpoints.resolve import fingerprint
from hsstar.engines.training.contract import ResumePoint, TrainingRow, TrainingSettings

_MARK = "training.json"
_STEP = "step-"
_REMOVED = "removed"
WRITING = "writing"


def training_identity(
    policy: Path,
    rows: Sequence[TrainingRow],
    settings: TrainingSettings,
    layout: str,
) -> str:
    """Return 32 hex digits that name a training; `save_every_steps` does not count, `layout` does."""
    chosen = {name: value for name, value in asdict(settings).items() if name != "save_every_steps"}
    digest = hashlib.sha256(json.dumps([fingerprint(policy), layout, chosen], sort_keys=True).encode())
    for row in rows:
        digest.update(json.dumps([type(row).__name__, *asdict(row).values()]).encode())
    return digest.hexdigest()[:32]


def adopt_checkpoint(workspace: Path, attempt: str, identity: str) -> ResumePoint:
    """Begin an attempt that resumes from the furthest checkpoint of this training, if one exists.

    Everything else that earlier attempts left moves to `removed`, for `clear_removed` to delete. The caller
    prevents that another attempt begins meanwhile (by the job's lease, or a lock); this only renames.
    """
    own = workspace / attempt
    (own / _REMOVED).mkdir(parents=True, exist_ok=True)
    checkpoint = _adopt_furthest(workspace, own, identity)
    for folder in workspace.iterdir():
        if folder.is_dir() and folder != own:
            _remove(folder, own)
    return ResumePoint(own, identity, checkpoint)


def _adopt_furthest(workspace: Path, own: Path, identity: str) -> Path | None:
    while checkpoint := _furthest(workspace, identity):
        try:
            return checkpoint.rename(own / checkpoint.name)
        except FileNotFoundError:  # an attempt that still runs has just replaced it by a later one
            continue
    return None


def of_another_training(workspace: Path, identity: str) -> bool:
    """Return whether the workspace has a whole checkpoint of another training."""
    identities = {_identity(path) for path in workspace.glob(f"*/{_STEP}*")}
    return bool(identities - {identity, None})


def clear_removed(resume_point: ResumePoint) -> None:
    """Delete the removed folders, which may take time."""
    for folder in (resume_point.folder / _REMOVED).glob("*"):
        shutil.rmtree(folder, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """Return the optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_STEP))


def publish(resume_point: ResumePoint, written: Path, step: int) -> None:
    """Make a completely written checkpoint the one to resume from, and remove earlier ones."""
    (written / _MARK).write_text(json.dumps({"identity": resume_point.identity, "step": step}))
    fsync_tree(written)
    final = resume_point.folder / f"{_STEP}{step}"
    written.rename(final)
    fsync_folder(resume_point.folder)
    for earlier in resume_point.folder.glob(f"{_STEP}*"):
        if earlier != final:
            _remove(earlier, resume_point.folder)
    clear_removed(resume_point)


def discard(resume_point: ResumePoint) -> None:
    """Remove the checkpoint of a resume point that cannot be read."""
    if resume_point.checkpoint is not None:
        _remove(resume_point.checkpoint, resume_point.folder)
        clear_removed(resume_point)


def _furthest(workspace: Path, identity: str) -> Path | None:
    checkpoints = [path for path in workspace.glob(f"*/{_STEP}*") if _identity(path) == identity]
    return max(checkpoints, key=step_of, default=None)


def _identity(checkpoint: Path) -> str | None:
    try:
        mark = json.loads((checkpoint / _MARK).read_bytes())
        return str(mark["identity"]) if checkpoint.name == f"{_STEP}{mark['step']}" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(folder: Path, own: Path) -> None:
    with suppress(FileNotFoundError):  # gone already
        folder.rename(own / _REMOVED / f"{folder.name}-{secrets.token_hex(4)}")
