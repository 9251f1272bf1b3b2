"""TOML documents that may extend others: `extends = "base.toml"` and the keys that differ."""

import tomllib
from pathlib import Path
from typing import Any

from hsstar.data import builtins
from hsstar.domain.errors import RecipeError

Document = dict[str, Any]

EXTENDS = "extends"


def load_document(path: Path) -> Document:
    """Return the document of a TOML file with everything that it extends.

    Raises:
        RecipeError: a file is missing or not TOML, or documents extend each other in a circle.
    """
    return extended(read_toml(path), path.parent, (path,))


def read_toml(path: Path) -> Document:
    """Return the values of a TOML file; raise RecipeError if it is missing or not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read ({error})") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from None


def extended(document: Document, folder: Path, chain: tuple[Path, ...]) -> Document:
    """Return a document merged into its base, without the key `extends`.

    Args:
        document: to be merged (see `merged`).
        folder: the start of a relative path in `extends`.
        chain: the files that led here, this document's own last; messages name that one.

    Raises:
        RecipeError: the base is missing, broken or one of the chain.
    """
    if EXTENDS not in document:
        return document
    changes = {key: value for key, value in document.items() if key != EXTENDS}
    base = _base_file(document[EXTENDS], folder, chain[-1])
    if base.resolve() in [file.resolve() for file in chain]:
        circle = " → ".join(file.name for file in (*chain, base))
        raise RecipeError(f"{chain[0]}: recipes extend each other in a circle: {circle}")
    return merged(extended(read_toml(base), base.parent, (*chain, base)), changes)


def _base_file(name: object, folder: Path, source: Path) -> Path:
    if not isinstance(name, str) or not name:
        raise RecipeError(f"{source}: extends: expected the path of a recipe, got {name!r}")
    if name.startswith(builtins.PREFIX):
        known = builtins.builtin_recipes()
        if name not in known:
            raise RecipeError(f"{source}: extends: no recipe {name!r}; known: {', '.join(known)}")
        return known[name]
    file = folder / Path(name).expanduser()
    if not file.is_file():
        raise RecipeError(f"{source}: extends: no file {file}")
    return file


def merged(base: Document, changes: Document) -> Document:
    """Return a document with changes: tables are merged key by key, other values replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both_tables = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both_tables else value  # type: ignore[arg-type]  # both are dicts
    return result
