"""Free the disk of policies that nothing needs any more; their rows, scores and lineage stay."""

import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.marker import read_marker
from hsstar.checkpoints.size import folder_bytes
from hsstar.store import models, runs
from hsstar.store.database import Database

_ASIDE = "pruned"


@dataclass(frozen=True, slots=True)
class PolicyFolder:
    """The checkpoint of a trained policy on this machine."""

    model: str
    folder: Path
    bytes: int
    needed_by: str | None  # None: it can go


def list_folders(database: Database) -> list[PolicyFolder]:
    """Return the checkpoints that runs of this database have trained and that lie here, oldest first."""
    with database.begin() as connection:
        return _list_folders(connection)


def prune_models(database: Database) -> list[PolicyFolder]:
    """Delete the checkpoints that nothing needs; return them.

    Each is renamed first, while no run can be created, so a checkpoint is whole or absent. What an
    interrupted call has left is deleted too.
    """
    with database.begin() as connection:
        runs.keep_new_ones_out(connection)
        listed = _list_folders(connection)
        pruned = [policy for policy in listed if policy.needed_by is None]
        for policy in pruned:
            policy.folder.rename(policy.folder.with_name(f".{_ASIDE}-{secrets.token_hex(8)}"))
        homes = {Path(location).parent for location, _ in _needs(connection).values()}
    for leftover in (path for home in homes for path in home.glob(f".{_ASIDE}-*")):
        shutil.rmtree(leftover, ignore_errors=True)
    return pruned


def _list_folders(connection: Connection) -> list[PolicyFolder]:
    database_id = models.database_id(connection)
    found: list[PolicyFolder] = []
    for name, (location, needed_by) in _needs(connection).items():
        folder = Path(location)
        marker = read_marker(folder)
        if marker is not None and marker.database == database_id:
            found.append(PolicyFolder(name, folder, folder_bytes(folder), needed_by))
    return found


def _needs(connection: Connection) -> dict[str, tuple[str, str | None]]:
    return {row.name: (row.location, row.needed_by) for row in models.policy_needs(connection)}
