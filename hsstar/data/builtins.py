"""Checkpoints and recipes of packages, named `builtin:NAME`.

A package offers them by an entry point of the group `hsstar.builtins`: a mapping of names to paths.
"""

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

PREFIX = "builtin:"
_GROUP = "hsstar.builtins"


@cache
def _offered() -> dict[str, Path]:
    offers = [point.load() for point in entry_points(group=_GROUP)]
    return {f"{PREFIX}{name}": path for offer in offers for name, path in offer.items()}


def builtin_checkpoints() -> dict[str, Path]:
    """Return the folders of all packaged checkpoints by name."""
    return {name: path for name, path in _offered().items() if path.is_dir()}


def builtin_recipes() -> dict[str, Path]:
    """Return the files of all packaged recipes by name."""
    return {name: path for name, path in _offered().items() if path.is_file()}
