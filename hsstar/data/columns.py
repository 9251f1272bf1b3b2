"""Values of a row by the names of its columns, with errors that say what was expected."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from hsstar.data.mapping import value_at
from hsstar.domain.errors import BadInputError
from hsstar.domain.text import kind_of, storable

Row = Mapping[str, Any]
"""One decoded row of a data set."""

_MISSING = object()


def lowered(row: Row) -> Row:
    """Return a row with its columns in lower case, unless two become one."""
    if all(key == key.lower() for key in row if isinstance(key, str)):
        return row
    plain = {str(key).lower(): value for key, value in row.items()}
    return plain if len(plain) == len(row) else row


def has(row: Row, *paths: str) -> bool:
    """Tell whether a row has a value, null included, under each path."""
    return all(_value(row, path) is not _MISSING for path in paths)


def first_value(row: Row, paths: Sequence[str]) -> tuple[str, Any] | None:
    """Return path and value of the first column that a row has, null included; None without one.

    A column with a value comes before a blank one.
    """
    held = [(path, value) for path in paths if (value := _value(row, path)) is not _MISSING]
    filled = (pair for pair in held if not is_blank(pair[1]))
    return next(filled, held[0] if held else None)


def is_blank(value: Any) -> bool:
    """Tell whether a value is missing: null, empty text, or NaN, as which some programs write null."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def text_of(row: Row, *paths: str) -> str:
    """Return the text under the first path; raise BadInputError if it is missing or no text."""
    entry = first_value(row, paths)
    if entry is None:
        raise BadInputError(f"expected {listed(paths)}, found keys {keys_of(row)}")
    path, value = entry
    if not isinstance(value, str):
        raise BadInputError(f"expected text under {path}, found {kind_of(value)}")
    return value


def statement_of(row: Row, *paths: str) -> str:
    """Return the statement under the first path: a text, or the last turn of the user in a chat."""
    entry = first_value(row, paths)
    if entry is not None and (chat := chat_of(entry[1])) is not None:
        statement = turn_of(entry[0], chat, "user")
    else:
        statement = text_of(row, *paths)
    statement = storable(statement).strip()
    if not statement:
        raise BadInputError(f"expected a statement under {listed(paths)}, found empty text")
    return statement


def optional_text(row: Row, *paths: str) -> str | None:
    """Return the text under the first path that holds any.

    Several texts are joined by blank lines; of a chat it is the last turn of the assistant.
    """
    for path in paths:
        value = _value(row, path)
        if (chat := chat_of(value)) is not None:
            value = turn_of(path, chat, "assistant")
        elif isinstance(value, list) and all(isinstance(part, str) for part in value):
            value = "\n\n".join(value)
        if isinstance(value, str) and value:
            return storable(value)
    return None


def optional_label(row: Row, *paths: str) -> str | None:
    """Return a short text or number under the first path that holds any; several are joined by commas."""
    for path in paths:
        value = _value(row, path)
        if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
            value = ", ".join(value)
        if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value).strip():
            return storable(str(value).strip())
    return None


def chat_of(value: Any) -> list[Mapping[str, Any]] | None:
    """Return the turns of a chat, which may be JSON as text; None for anything else."""
    if isinstance(value, str) and value.startswith("[{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if not isinstance(value, list) or not value:
        return None
    return value if all(isinstance(turn, Mapping) and "content" in turn for turn in value) else None


def turn_of(path: str, chat: list[Mapping[str, Any]], role: str) -> str:
    """Return the last turn of a role in a chat; raise BadInputError without one."""
    for turn in reversed(chat):
        if turn.get("role") == role and isinstance(turn["content"], str):
            return turn["content"]
    raise BadInputError(f"expected {path} with a turn of the {role}")


def listed(paths: Sequence[str]) -> str:
    """Return names in words: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(paths[:-1]), paths[-1])))


def keys_of(row: Row) -> str:
    """Return the columns of a row in words."""
    return ", ".join(sorted(map(str, row))) or "none"


def _value(row: Row, path: str) -> Any:
    if path in row:
        return row[path]
    if "." not in path:
        return _MISSING
    try:
        return value_at(row, path)
    except LookupError:
        return _MISSING
