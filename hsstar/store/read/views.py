"""The documentation of the public views: their purpose and columns."""

from dataclasses import dataclass
from importlib import resources

from sqlalchemy import Connection

from hsstar.store.database import execute_file

_MIGRATION = "versions/0001"


@dataclass(frozen=True, slots=True)
class ViewDescription:
    """A view of the schema."""

    view: str
    purpose: str
    columns: list[tuple[str, str]]  # name and type, in their order


def describe_views(connection: Connection) -> list[ViewDescription]:
    """Return the views of the schema, by name."""
    return [
        ViewDescription(row.view, _purpose(row.view), [*zip(row.columns, row.types, strict=True)])
        for row in execute_file(connection, "describe_views", {})
    ]


def _purpose(view: str) -> str:
    """Return the first sentence about a view, which its migration says; empty if it has none."""
    file = resources.files("hsstar.migrations").joinpath(_MIGRATION, f"{view}.sql")
    if not file.is_file():
        return ""
    first = file.read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("-- ")
