"""Intermediate checkpoints of a training: whole or absent, and used for the training that they belong to.

    WORKSPACE/              of one training, beside the place of its result; shared by its attempts
        ATTEMPT/            one attempt alone writes here
            writing/        what is half written
            step-12/        whole; training.json says which training it belongs to
            removed/        what is being deleted

An attempt takes over the furthest checkpoint of an earlier one by renaming it into its own folder. Who
loses a folder to a rename is an attempt that is over, or one that should be: its next write fails.
Importing this module does not import PyTorch.
"""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from hsstar.checkpoints.resolve import fingerprint
from hsstar.engines.training.contract import (
    Intermediate,
    TrainingExample,
    TrainingPair,
    TrainingSettings,
)

_MARK = "training.json"
_STEP = "step-"
_REMOVED = "removed"
WRITING = "writing"


def training_identity(
    policy: Path,
    rows: Sequence[TrainingPair | TrainingExample],
    settings: TrainingSettings,
    layout: str,
) -> str:
    """32 hex digits that name a training: policy, data, settings, and how processes share it.

    How often it is saved is no part of it.
    """
    chosen = {name: value for name, value in asdict(settings).items() if name != "save_every_steps"}
    digest = hashlib.sha256(json.dumps([fingerprint(policy), layout, chosen], sort_keys=True).encode())
    for row in rows:
        digest.update(json.dumps([type(row).__name__, *asdict(row).values()]).encode())
    return digest.hexdigest()[:32]


def take_over(workspace: Path, attempt: str, identity: str) -> Intermediate:
    """Begins an attempt: it goes on from the furthest checkpoint that belongs to this training.

    Whatever else earlier attempts have left goes, to be deleted by `clear_removed`. The caller makes sure
    that no other attempt begins meanwhile (by the job's lease, or a lock); only renames happen here.
    """
    own = workspace / attempt
    (own / _REMOVED).mkdir(parents=True, exist_ok=True)
    resume_from = _adopted(workspace, own, identity)
    for folder in workspace.iterdir():
        if folder.is_dir() and folder != own:
            _remove(folder, own)
    return Intermediate(own, identity, resume_from)


def _adopted(workspace: Path, own: Path, identity: str) -> Path | None:
    while found := _furthest(workspace, identity):
        target = own / found.name
        try:
            return found.rename(target)
        except FileNotFoundError:  # an attempt that is still at it has just replaced it by a later one
            continue
    return None


def of_another_training(workspace: Path, identity: str) -> bool:
    """Whether an attempt at another training has left a whole checkpoint in the workspace."""
    left = {_identity(path) for path in workspace.glob(f"*/{_STEP}*")}
    return bool(left - {identity, None})


def clear_removed(intermediate: Intermediate) -> None:
    """Deletes what has been taken away, which may take time."""
    for folder in (intermediate.folder / _REMOVED).glob("*"):
        shutil.rmtree(folder, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    """The optimiser step after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix(_STEP))


def publish(intermediate: Intermediate, written: Path, step: int) -> None:
    """Makes a checkpoint that is completely written the one to go on from; earlier ones go."""
    (written / _MARK).write_text(json.dumps({"identity": intermediate.identity, "step": step}))
    settle(written)
    final = intermediate.folder / f"{_STEP}{step}"
    written.rename(final)
    settle_folder(intermediate.folder)
    for earlier in intermediate.folder.glob(f"{_STEP}*"):
        if earlier != final:
            _remove(earlier, intermediate.folder)
    clear_removed(intermediate)


def discard(intermediate: Intermediate) -> None:
    """Removes the checkpoint that an attempt should have gone on from and could not."""
    if intermediate.resume_from is not None:
        _remove(intermediate.resume_from, intermediate.folder)
        clear_removed(intermediate)


def settle(folder: Path) -> None:
    """Waits until every file below a folder is on the disk, so that a rename cannot outlive its content."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as content:
                os.fsync(content.fileno())
    for path in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        settle_folder(path)


def settle_folder(folder: Path) -> None:
    """Waits until the names in a folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _furthest(workspace: Path, identity: str) -> Path | None:
    """The whole checkpoint of this training with the most steps, whichever attempt has written it."""
    found = [path for path in workspace.glob(f"*/{_STEP}*") if _identity(path) == identity]
    return max(found, key=step_of, default=None)


def _identity(checkpoint: Path) -> str | None:
    try:
        mark = json.loads((checkpoint / _MARK).read_bytes())
        return str(mark["identity"]) if checkpoint.name == f"{_STEP}{mark['step']}" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove(folder: Path, own: Path) -> None:
    """Takes a folder away at once: nobody sees it half deleted."""
    with suppress(FileNotFoundError):  # gone already
        folder.rename(own / _REMOVED / f"{folder.name}-{secrets.token_hex(4)}")
