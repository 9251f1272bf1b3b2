"""How results are printed: tables for people, CSV and JSON for programs."""

import csv
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

_FILE_COLUMNS = 1_000

console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
"""Where results go; lines for a file or a pipe are never wrapped."""

error_console = Console(highlight=False, soft_wrap=True, stderr=True)
"""Where progress goes while standard output is for a program."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Prints rows under headings; numbers stand to the right."""
    console.print(make_table(columns, rows, title))


def make_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> Table:
    """A table of rows under headings; numbers stand to the right."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        numeric = any(isinstance(row[place], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(shown(value) for value in row))
    return table


def shown(value: Any) -> str:
    """A value as a person reads it."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    return str(value)


def print_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes rows as CSV with a heading."""
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    writer.writerows(rows)


def print_markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str | None = None) -> None:
    """Prints rows under headings as a Markdown table."""
    lines = [f"**{title}**", ""] if title else []
    lines.append(_markdown_row(columns))
    lines.append(_markdown_row(["---"] * len(columns)))
    lines += [_markdown_row([shown(value) for value in row]) for row in rows]
    console.print("\n".join(lines), markup=False)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def print_json(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Writes rows as a JSON list of objects; what JSON does not know becomes text."""
    objects = [dict(zip(columns, row, strict=True)) for row in rows]
    console.file.write(json.dumps(objects, ensure_ascii=False, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return float(value) if hasattr(value, "as_integer_ratio") else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as a person reads them."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending whole numbers as a person writes them: 0–2, 5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)
