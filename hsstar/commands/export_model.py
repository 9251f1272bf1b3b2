"""Takes a registered policy away: its checkpoint, whole, with a card that says how it came to be."""

import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

from hsstar.checkpoints.card import Origin, card
from hsstar.checkpoints.files import fingerprint
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.engines.training.resume import settle, settle_folder
from hsstar.store import models
from hsstar.store.database import Database
from hsstar.store.models import checkpoint_of
from hsstar.store.read.lineage import LineageEntry, ancestry


def export_model(database: Database, name: str, target: Path) -> Path:
    """Copies the checkpoint of a policy into a folder, which appears when it is whole.

    Raises:
        NotFoundError: there is no policy of that name.
        CheckpointError: its folder is gone, or holds other weights by now.
        ConflictError: the target holds something.
        BadInputError: the target cannot be written, or there is no room.
    """
    with database.begin() as connection:
        model = models.find_model(connection, name)
        line = ancestry(connection, name)
    source = checkpoint_of(model)
    target = target.expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{target} is there already and not an empty folder; give another one")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_room(source, target.parent)
        _copy(source, aside)
        (aside / "README.md").write_text(_card(line), encoding="utf-8")
        settle(aside)
        if fingerprint(aside) != model.fingerprint:
            raise BadInputError(f"{source} has changed while it was copied; try again")
        aside.rename(target)  # an empty folder makes room
        settle_folder(target.parent)
    except OSError as error:
        raise BadInputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _copy(source: Path, aside: Path) -> None:
    """The files of a checkpoint; a hub cache holds them as links."""
    aside.mkdir()
    for file in source.iterdir():
        if file.is_file() and not file.name.startswith("."):
            shutil.copyfile(file, aside / file.name)


def _check_room(source: Path, folder: Path) -> None:
    needed = sum(file.stat().st_size for file in source.iterdir() if file.is_file())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise BadInputError(
            f"no room for the checkpoint: it takes {needed / 1e9:,.1f} GB, and {folder} has "
            f"{free / 1e9:,.1f} GB free"
        )


def _card(line: Sequence[LineageEntry]) -> str:
    return card([_origin(entry) for entry in line], line[0].location)


def _origin(entry: LineageEntry) -> Origin:
    made = f"elsewhere, and registered from {entry.location}"
    if entry.run is not None:
        kind = "preference pairs" if entry.objective == "dpo" else "correct samples"
        made = (
            f"by {(entry.objective or '').upper()} on {entry.items} {kind} of iteration {entry.iteration} of "
            f"the run {entry.run}, in {entry.steps} optimiser steps"
        )
    return Origin(
        name=entry.name,
        made=made,
        parent=entry.parent,
        objective=entry.objective,
        recipe=json.dumps(entry.recipe, indent=2) if entry.recipe else None,
        settings=entry.settings,
        scores=entry.scores,
    )
