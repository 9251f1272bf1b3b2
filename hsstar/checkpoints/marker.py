"""Whose a trained checkpoint is: hsstar replaces and removes folders with its own mark alone."""

import json
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.domain.errors import ConflictError

MARKER_FILE = "hsstar.json"


@dataclass(frozen=True, slots=True)
class Marker:
    """The iteration that trained a checkpoint, and the fingerprint of its content."""

    database: str  # its id
    run: str
    iteration: int
    fingerprint: str

    def is_of(self, database: str, run: str, iteration: int) -> bool:
        """Tell whether it was trained by this iteration."""
        return (self.database, self.run, self.iteration) == (database, run, iteration)


def read_marker(folder: Path) -> Marker | None:
    """Return whose a folder is; None if it does not say so."""
    try:
        return Marker(**json.loads((folder / MARKER_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def write_marker(folder: Path, marker: Marker) -> None:
    """Write down whose a folder is."""
    (folder / MARKER_FILE).write_text(json.dumps(asdict(marker)) + "\n", encoding="utf-8")


def check_place(final: Path, database: str, run: str, iteration: int) -> None:
    """Raise ConflictError if something lies at `final` that this iteration did not put there."""
    if not final.exists() and not final.is_symlink():
        return
    found = read_marker(final)
    if found is None or not found.is_of(database, run, iteration):
        raise ConflictError(f"{final} {_whose(found)}; it is not replaced: move it away")


def check_free(folder: Path) -> None:
    """Raise ConflictError if the folder for the checkpoints of a new run has one already."""
    old = next(iter(sorted(folder.glob("M*"))), None)
    if old is not None:
        raise ConflictError(
            f"{old} {_whose(read_marker(old))}; choose another name for the run, or another HSSTAR_MODELS_DIR"
        )


def scratch_name(label: str, database: str) -> str:
    """Return the name of the folder of an unfinished training, beside the place of its checkpoint.

    Another database may have a run of the same name and folder.
    """
    return f".{label}-{database[:8]}-training"


def scratch_folders(folder: Path, database: str) -> list[Path]:
    """Return the folders of unfinished trainings of this database in the folder of a run."""
    return list(folder.glob(scratch_name("M*", database)))


def put_in_place(aside: Path, final: Path, marker: Marker) -> None:
    """Mark a whole checkpoint and rename it to `final`, in place of an earlier one of the same iteration.

    Raises ConflictError, and changes nothing, if something else lies there.
    """
    write_marker(aside, marker)
    check_place(final, marker.database, marker.run, marker.iteration)
    if final.exists():
        replaced = aside.with_name(f"{aside.name}.{secrets.token_hex(4)}")
        final.rename(replaced)
        aside.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        aside.rename(final)


def _whose(marker: Marker | None) -> str:
    if marker is None:
        return "was not made by hsstar"
    return f"is of iteration {marker.iteration} of run {marker.run!r} in the database {marker.database}"
