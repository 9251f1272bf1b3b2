"""Exports a registered policy: its checkpoint, merged if it is an adapter, with a model card."""

import json
import secrets
import shutil
from pathlib import Path

from hsstar.checkpoints.card import CardEntry, card
from hsstar.checkpoints.disk_space import bytes_text, disk_space
from hsstar.checkpoints.files import KEPT_FILES, fsync_folder, fsync_tree
from hsstar.checkpoints.marker import MARKER_FILE
from hsstar.checkpoints.resolve import fingerprint
from hsstar.checkpoints.size import model_size
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.engines.registry import write_merged
from hsstar.store import models
from hsstar.store.database import Database
from hsstar.store.models import checkpoint_of
from hsstar.store.read.lineage import LineageEntry, ancestry


def export_model(database: Database, name: str, target: Path) -> Path:
    """Copy the checkpoint of a policy into a folder, which appears when it is whole.

    An adapter is merged into its base, in float32.

    Raises:
        NotFoundError: the database has no policy of that name.
        CheckpointError: its folder is gone, or now holds other weights.
        ConflictError: the target holds something.
        BadInputError: the target cannot be written, or the disk has no room.
    """
    with database.begin() as connection:
        model = models.find_model(connection, name)
        line = ancestry(connection, name)
    source = checkpoint_of(model)
    target = target.expanduser().absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConflictError(f"{target} exists and is not an empty folder; give another one")
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        _check_room(_bytes_of(source, model), target.parent)
        aside.mkdir(parents=True)
        if model.base is not None:
            write_merged(source, aside)
        for file in _files(source) if model.base is None else _texts(source):
            shutil.copyfile(file, aside / file.name)
        readme = card([_card_entry(entry) for entry in line], line[0].location)
        (aside / "README.md").write_text(readme, encoding="utf-8")
        fsync_tree(aside)
        if fingerprint(source if model.base is not None else aside) != model.fingerprint:
            raise BadInputError(f"{source} has changed while it was copied; try again")
        aside.rename(target)  # this replaces an empty folder
        fsync_folder(target.parent)
    except OSError as error:
        raise BadInputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return target


def _files(source: Path) -> list[Path]:
    """Return the files of a checkpoint; a hub cache holds them as links."""
    own = (file for file in source.iterdir() if file.name != MARKER_FILE and not file.name.startswith("."))
    return [file for file in own if file.is_file()]


def _texts(source: Path) -> list[Path]:
    """Return the files of an adapter that are those of its base too: tokenizer, chat template, decoding."""
    return [file for file in _files(source) if file.name in KEPT_FILES]


def _bytes_of(source: Path, model: models.Model) -> int:
    if model.base is not None:
        return 4 * (model_size(model.location).parameters or 0)
    return sum(file.stat().st_size for file in _files(source))


def _check_room(needed: int, folder: Path) -> None:
    space = disk_space(folder)
    if needed > space.free:
        raise BadInputError(
            f"no room for the checkpoint: it takes {bytes_text(needed)}, and {space.folder} has "
            f"{bytes_text(space.free)} free"
        )


def _card_entry(entry: LineageEntry) -> CardEntry:
    made = f"elsewhere, and registered from {entry.location}"
    if entry.run is not None:
        kinds = {"dpo": "preference pairs", "kto": "judged samples"}
        kind = kinds.get(entry.objective or "", "correct samples")
        made = (
            f"by {(entry.objective or '').upper()} on {entry.items} {kind} of iteration {entry.iteration} of "
            f"the run {entry.run}, in {entry.steps} optimiser steps"
        )
        if entry.base is not None:
            made += f", as an adapter on {entry.base}"
    return CardEntry(
        name=entry.name,
        made=made,
        parent=entry.parent,
        objective=entry.objective,
        recipe=json.dumps(entry.recipe, indent=2) if entry.recipe else None,
        settings=entry.settings,
        scores=entry.scores,
        update=entry.update,
    )
