"""Columns that the user maps to hsstar's own: `statement=prompt.-1.content`.

A path is keys and list positions joined by dots; `-1` is the last item. A value that is JSON as text, as in a
column of a CSV file, is read where the path reaches into it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hsstar.domain.errors import BadInputError

FIELDS = (
    "statement", "reference", "solution", "subject", "level", "id",
    "response", "responses", "finish_reason", "cumulative_logprob",
)  # fmt: skip
"""What can be mapped; the last four belong to samples."""

_NEEDED = frozenset({"statement", "reference", "response", "responses"})


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """Where the fields of hsstar's own layout stand in rows; without any, rows stay as they are."""

    paths: Mapping[str, str]  # by field

    @classmethod
    def parse(cls, options: Iterable[str], *needed: tuple[str, ...]) -> "ColumnMap":
        """Read options `FIELD=PATH`; of each group in `needed` at least one field has to be mapped.

        Raise BadInputError for an unknown field, one that is mapped twice, and a missing one.
        """
        paths: dict[str, str] = {}
        for option in options:
            field, equals, path = (part.strip() for part in option.partition("="))
            if not equals or not path:
                raise BadInputError(f"--map {option}: expected FIELD=PATH, as in statement=prompt.-1.content")
            if field not in FIELDS:
                raise BadInputError(f"--map {option}: unknown field {field!r}; fields: {', '.join(FIELDS)}")
            if field in paths:
                raise BadInputError(f"--map {option}: {field} is mapped twice")
            paths[field] = path
        for group in needed if paths else ():
            if not paths.keys() & group:
                raise BadInputError(f"--map lacks {' or '.join(f'{field}=PATH' for field in group)}")
        return cls(paths)

    def __bool__(self) -> bool:
        return bool(self.paths)

    def apply(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the mapped fields of a row, by field; those that a row lacks are left out.

        Raise BadInputError if a row lacks its statement, reference or response.
        """
        if not self.paths:
            return dict(row)
        mapped: dict[str, Any] = {}
        for field, path in self.paths.items():
            try:
                mapped[field] = value_at(row, path)
            except LookupError:
                if field in _NEEDED:
                    keys = ", ".join(sorted(map(str, row))) or "none"
                    raise BadInputError(f"no value under {path} for {field}, found keys {keys}") from None
        return mapped


NO_MAP = ColumnMap({})


def value_at(value: Any, path: str) -> Any:
    """Return the value at a path of keys and places; raise LookupError without one.

    A key may itself contain dots.
    """
    if isinstance(value, Mapping) and path in value:
        return value[path]
    step, dot, rest = path.partition(".")
    if isinstance(value, str):
        value = _parsed(value)
    if isinstance(value, Mapping):
        inner = value[step]
    elif isinstance(value, list) and step.lstrip("-").isdecimal():
        inner = value[int(step)]
    else:
        raise LookupError(step)
    return value_at(inner, rest) if dot else inner


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith(("[", "{")):
        raise LookupError(text)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise LookupError(text) from None
