"""The one renderer of results: tables for people, CSV and JSON for programs, Markdown for papers."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from operator import attrgetter
from textwrap import indent
from typing import Any, TypeVar, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hsstar.cli.options import Format
from hsstar.cli.text import visible
from hsstar.domain.text import duration as duration

_FILE_COLUMNS = 1_000

Entry = TypeVar("Entry")
Columns = Mapping[str, str | Callable[[Entry], Any]]
"""Headings, and the field or function that gives the values below each."""


class PlainConsole(Console):
    """Prints text as text: no markup, no emoji codes, and what a terminal would obey is escaped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert text to an instance of Text; rich prints strings and cells by this."""
        return super().render_str(visible(text), **options)


console = PlainConsole(soft_wrap=True, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
"""For results; lines for a file or a pipe are never wrapped."""

error_console = PlainConsole(soft_wrap=True, stderr=True)
"""For progress while a program reads standard output."""


def show(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    title: str | None = None,
    *,
    shown_as: Format = "table",
) -> None:
    """Print rows under headings, as a table for people, Markdown, CSV, or a JSON list of objects."""
    match shown_as:
        case "table":
            console.print(_table(columns, list(rows), title))
        case "markdown":
            lines = [f"**{title}**", ""] if title else []
            cells = [columns, ["---"] * len(columns), *([shown(value) for value in row] for row in rows)]
            lines += ["| " + " | ".join(map(_markdown_cell, row)) + " |" for row in cells]
            console.print("\n".join(lines))
        case "csv":
            writer = csv.writer(sys.stdout)
            writer.writerow(columns)
            writer.writerows(map(_csv_cell, row) for row in rows)
        case "json":
            _print_json_list(dict(zip(columns, row, strict=True)) for row in rows)


def show_list(
    kind: type[Entry],
    entries: Sequence[Entry],
    shown_as: Format,
    columns: Columns[Entry] | None = None,
    title: str | None = None,
) -> None:
    """Print dataclass instances: CSV and JSON with every field of `kind`, other formats with `columns`."""
    names = [field.name for field in fields(cast(Any, kind))]
    if shown_as in ("csv", "json"):
        columns = dict(zip(names, names, strict=True))
    elif columns is None:
        columns = {name.replace("_", " "): name for name in names}
    readers = [attrgetter(source) if isinstance(source, str) else source for source in columns.values()]
    show(list(columns), [[read(entry) for read in readers] for entry in entries], title, shown_as=shown_as)


def print_json(document: Any) -> None:
    """Write a JSON document; what JSON does not know becomes a number or text."""
    sys.stdout.write(_json_text(document) + "\n")


def _print_json_list(documents: Iterable[Any]) -> None:
    """Write documents as `print_json` writes their list, one after the other."""
    before = "[\n"
    for document in documents:
        sys.stdout.write(before + indent(_json_text(document), "  "))
        before = ",\n"
    sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")


def _json_text(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False, indent=2, default=_plain)
    return "".join(map(_json_character, text))


def _json_character(character: str) -> str:
    """Escape as JSON does what a terminal would obey; outside of strings there is none of it."""
    if character == "\n" or visible(character) == character:
        return character
    return json.dumps(character)[1:-1]


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return float(value) if hasattr(value, "as_integer_ratio") else str(value)


def _markdown_cell(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _csv_cell(value: Any) -> Any:
    cell = _text_if_tuple(value)
    return visible(cell) if isinstance(cell, str) and sys.stdout.isatty() else cell


def _text_if_tuple(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        numeric = any(isinstance(row[place], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row))
    return table


def shown(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None or value == ():
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(_text_if_tuple(value))


def size(count: int) -> str:
    """Return bytes as a person reads them: 1.2 GB."""
    units = ("bytes", "kB", "MB", "GB", "TB")
    power = min(len(units) - 1, (len(str(count)) - 1) // 3)
    return f"{count / 1000**power:.3g} {units[power]}"


def ranges(numbers: Sequence[int]) -> str:
    """Return ascending whole numbers as a person writes them: 0–2, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)
