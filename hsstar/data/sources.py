"""What the user calls a source of rows: files, folders, patterns, names of the hub and of made problems."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from hsstar.data import gym, hub
from hsstar.data.lines import COMPRESSED, data_suffix
from hsstar.data.rows import SUFFIXES, count_rows
from hsstar.domain.errors import BadInputError

_PATTERN = re.compile(r"[*?\[]")
_NUMBERS = re.compile(r"(\d+)")
_ABOUT_THE_DATA = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"})


def files_of(names: Iterable[Path | str]) -> list[Path]:
    """Return the files that names mean, each once, in the order of the names; `gym:` names stay as they are.

    A folder means all files of rows below it; a pattern (`part-*.jsonl`) means the files that match. Both are
    in natural order. Raise BadInputError if a folder or pattern has none or a name is empty, or as
    `hub.local_file`.
    """
    files = [file for name in names for file in _files_of(name)]
    return list(dict.fromkeys(files))


def total_rows(files: Sequence[Path]) -> int | None:
    """Return how many rows files hold, about: None where only reading them tells."""
    counts = [count_rows(file) for file in files]
    return None if None in counts else sum(filter(None, counts))


def _files_of(name: Path | str) -> list[Path]:
    text, path = str(name), Path(name)
    if not text.strip():
        raise BadInputError("the name of a file is empty")
    if text.startswith((gym.PREFIX, hub.PREFIX)):
        return [hub.local_file(name)]
    if path.is_dir():
        files = [file for file in path.rglob("*") if _holds_rows(file, path)]
        missing = f"{path} holds no file of rows ({', '.join(SUFFIXES)}, also {', '.join(COMPRESSED)})"
    elif _PATTERN.search(text) and not path.exists():
        below = Path(path.anchor)
        files = [file for file in below.glob(str(path.relative_to(path.anchor))) if file.is_file()]
        missing = f"no file matches {text}"
    else:
        return [path]
    if not files:
        raise BadInputError(missing)
    return sorted(files, key=_natural)


def _holds_rows(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return (
        data_suffix(file) in SUFFIXES and file.name not in _ABOUT_THE_DATA and not hidden and file.is_file()
    )


def _natural(file: Path) -> list[tuple[int, str]]:
    """Return a key by which 10.json comes behind 9.json."""
    parts = _NUMBERS.split(str(file))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
