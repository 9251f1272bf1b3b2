"""TOML documents that may extend others: `extends = "base.toml"` and the keys that differ."""

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hsstar.data import builtins
from hsstar.domain.errors import RecipeError
from hsstar.domain.suggestions import did_you_mean
from hsstar.recipe.prompt import with_template_text
from hsstar.recipe.verification import with_function_text

Document = dict[str, Any]

EXTENDS = "extends"


def load_document(path: Path) -> Document:
    """Return the document of a TOML file or a packaged one, `builtin:NAME`, with all that it extends.

    Raises:
        RecipeError: a file is missing or not TOML, or documents extend each other in a circle.
    """
    file = _builtin_file(str(path), "") if str(path).startswith(builtins.PREFIX) else path
    return extended(read_toml(file), file.parent, (file,))


def parse_changes(changes: Iterable[str]) -> Document:
    """Return `KEY=VALUE` texts as a document; a dot in a key leads into a table.

    Values are TOML; what is no TOML is text. Raise RecipeError for a text without `=`, or if one changes a
    key of what another one replaces.
    """
    document: Document = {}
    for change in changes:
        key, equals, value = change.partition("=")
        *tables, last = (part.strip() for part in key.split("."))
        if not (equals and last and all(tables)):
            raise RecipeError(f"--set {change}: expected KEY=VALUE, for example sampling.n=16")
        table = document
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise RecipeError(f"--set {change}: another --set gives {part!r} a value of its own")
        table[last] = _parse_value(value)
    return document


def _parse_value(text: str) -> object:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


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
    document = with_template_text(document, folder, str(chain[-1]))
    document = with_function_text(document, folder, str(chain[-1]))
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
        return _builtin_file(name, f"{source}: extends: ")
    file = folder / Path(name).expanduser()
    if not file.is_file():
        raise RecipeError(f"{source}: extends: no file {file}")
    return file


def _builtin_file(name: str, where: str) -> Path:
    known = builtins.builtin_recipes()
    if name not in known:
        raise RecipeError(f"{where}no recipe {name!r}; known: {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def merged(base: Document, changes: Document) -> Document:
    """Return a document with changes: tables are merged key by key, other values replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        both_tables = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both_tables else value  # type: ignore[arg-type]  # both are dicts
    return result
