"""Rows of JSON lines, JSON, CSV and Parquet, each with its line; decided by the suffix.

An error names file and line. What `BadRows` permits is left out: broken lines, and records of another length
than the header.
"""

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from hsstar.data.bad_rows import BadRows
from hsstar.data.lines import COMPRESSED, data_suffix, open_lines
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.text import kind_of

NumberedRow = tuple[int, dict[str, Any]]
"""A row with its line in the file (items of a JSON list and rows of a Parquet file are counted from 1)."""

ROWS_IN_A_BATCH = 1_000
"""Rows per read of a Parquet file and per flush of an output."""

_BLOCK = 1 << 20
_DELIMITERS = ",;\t|"
_ROW_LISTS = ("data", "rows", "examples", "problems", "instances", "items", "records", "train", "test")
"""Keys of a JSON object that is no row, but has the rows in a list."""


def rows_of_file(path: Path, bad: BadRows) -> Iterator[NumberedRow]:
    """Stream the rows of a file; raise BadInputError if it is missing, broken or empty."""
    return not_empty(path, _READERS.get(data_suffix(path), _read_json)(path, bad))


def count_rows(path: Path) -> int | None:
    """Return about how many rows a file has, quickly; None where only reading it tells.

    The lines of a text are counted, and of Parquet what it says; never raises.
    """
    try:
        with path.open("rb") as stream:
            if data_suffix(path) == ".parquet":
                return int(parquet_modules()[1].ParquetFile(stream).metadata.num_rows)
            if path.suffix.lower() in COMPRESSED or data_suffix(path) == ".json":
                return None
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(_BLOCK), b""))
    except Exception:  # only the progress bar asks; the reading itself names what is wrong
        return None


def json_lines(source: Path | IO[bytes], bad: BadRows) -> Iterator[NumberedRow]:
    """Stream the rows of JSON lines in a file of any suffix or a stream; errors as in `rows_of_file`."""
    place = source if isinstance(source, Path) else source.name
    return not_empty(place, _read_json_lines(source, bad))


@contextmanager
def naming(place: Path | str, line: int) -> Iterator[None]:
    """Add file and line to the error of a row."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(f"{place}:{line}: {error}") from None


def not_empty(place: Path | str, rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    """Pass rows on; raise BadInputError without any, and where the system cannot read."""
    empty = True
    with _readable(place):
        for row in rows:
            empty = False
            yield row
    if empty:
        raise BadInputError(f"{place} holds no rows")


def parquet_modules() -> tuple[Any, Any]:
    """Return pyarrow and its module of Parquet; raise MissingDependencyError without it."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            'Parquet files need pyarrow: install it with pip install "hsstar[parquet]"'
        ) from None
    return pyarrow, pyarrow.parquet


def reason_of(error: OSError) -> str:
    """Return what the system says, in one line."""
    return os.strerror(error.errno) if error.errno else first_line(error)


def first_line(error: Exception) -> str:
    """Return the first line of an error's text."""
    return str(error).strip().partition("\n")[0]


@contextmanager
def _readable(place: Path | str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadInputError(f"{place} does not exist") from None
    except IsADirectoryError:
        raise BadInputError(f"{place} is a folder, expected a file") from None
    except OSError as error:
        raise BadInputError(f"cannot read {place}: {reason_of(error)}") from None


def _read_json_lines(source: Path | IO[bytes], bad: BadRows) -> Iterator[NumberedRow]:
    with open_lines(source) as lines:
        place = source if isinstance(source, Path) else source.name
        yield from _json_rows(place, _filled(lines), bad)


def _filled(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(lines, start=1) if line.strip())


def _json_rows(place: Path | str, lines: Iterable[tuple[int, bytes]], bad: BadRows) -> Iterator[NumberedRow]:
    for number, raw in lines:
        with bad.left_out():
            text = _decoded(place, number, raw).strip()
            yield number, _object(place, number, _parsed(place, number, text))


def _read_json(path: Path, bad: BadRows) -> Iterator[NumberedRow]:
    """Yield the rows of JSON lines, or of one JSON text: a list, an object with a list, or one row."""
    with open_lines(path) as lines:
        filled = _filled(lines)
        first = list(_next(filled))
        second = [] if not first or _continues(first[0][1]) else list(_next(filled))
        if second or not first:
            yield from _json_rows(path, chain(first, second, filled), bad)
            return
        [(number, start)] = first
        text = _decoded(path, number, b"".join(chain([start], (line for _, line in filled))))
    for place, item in enumerate(_items(path, _parsed(path, number, text)), start=1):
        with bad.left_out():
            yield place, _object(path, place, item)


def _next(lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    for line in lines:
        yield line
        return


def _continues(line: bytes) -> bool:
    """Tell whether a line begins a JSON text of several lines."""
    text = line.strip()
    return text.startswith(b"[") or (text.startswith(b"{") and text.endswith((b"{", b"[", b",")))


def _items(path: Path, value: Any) -> list[Any]:
    """Return the rows in a JSON text."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        return [value]
    for key in _ROW_LISTS:
        if len(value) == 1 and isinstance(value.get(key), list):
            return list(value[key])
    columns = list(value.values())
    if len(columns) > 1 and all(map(_is_column, columns)):
        if len({len(column) for column in columns}) > 1:
            raise BadInputError(f"{path} has columns of different length, expected a list of rows")
        return [dict(zip(value, items, strict=True)) for items in zip(*columns, strict=True)]
    return [value]


def _is_column(value: Any) -> bool:
    """Tell whether a value is a list of cells; a list of objects is a conversation."""
    return isinstance(value, list) and not any(isinstance(cell, dict) for cell in value)


class _Text:
    """The decoded lines of a table; `number` counts them, those that are left out included."""

    def __init__(self, path: Path, lines: Iterator[bytes], bad: BadRows) -> None:
        self._path, self._lines, self._bad, self.number = path, lines, bad, 0

    def __iter__(self) -> Iterator[str]:
        for raw in self._lines:
            self.number += 1
            with self._bad.left_out():
                yield _decoded(self._path, self.number, raw)


def _read_table(path: Path, bad: BadRows) -> Iterator[NumberedRow]:
    csv.field_size_limit(sys.maxsize)  # a solution is longer than the 131,072 characters of the library
    with open_lines(path) as raw:
        text = _Text(path, raw, bad)
        lines = iter(text)
        first = next(lines, "")
        reader = csv.reader(chain([first], lines), delimiter=_delimiter(first), strict=True)
        header: list[str] | None = None
        while True:
            with bad.left_out():
                try:
                    fields = next(reader, None)
                except csv.Error as error:
                    raise BadInputError(f"{path}:{text.number}: broken CSV ({error})") from None
                if fields is None:
                    return
                if header is None:
                    header = [name.strip() for name in fields]
                elif fields:
                    if len(fields) != len(header):
                        expected = f"expected {len(header)} fields as in the header, found {len(fields)}"
                        raise BadInputError(f"{path}:{text.number}: {expected}")
                    yield text.number, dict(zip(header, fields, strict=True))


def _delimiter(header: str) -> str:
    """Return the character that splits the header into most fields; a comma if several do."""
    return max(_DELIMITERS, key=lambda sign: len(next(csv.reader([header], delimiter=sign), [])))


def _read_parquet(path: Path, bad: BadRows) -> Iterator[NumberedRow]:
    pyarrow, parquet = parquet_modules()
    number = 0
    try:
        with path.open("rb") as stream:
            for batch in parquet.ParquetFile(stream).iter_batches(batch_size=ROWS_IN_A_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise BadInputError(f"{path} is not a readable Parquet file ({first_line(error)})") from None


_READERS: dict[str, Callable[[Path, BadRows], Iterator[NumberedRow]]] = {
    ".csv": _read_table,
    ".tsv": _read_table,
    ".parquet": _read_parquet,
}

SUFFIXES = (".jsonl", ".json", *_READERS)
"""Suffixes of files that hold rows, in order of preference."""


def _decoded(place: Path | str, line: int, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        where = line + raw.count(b"\n", 0, error.start)
        raise BadInputError(f"{place}:{where}: not UTF-8 (byte 0x{raw[error.start]:02x})") from None


def _parsed(place: Path | str, line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{place}:{line + error.lineno - 1}"
        raise BadInputError(f"{where}: expected one JSON object, found broken JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{place}:{line}: cannot read the JSON ({first_line(error)})") from None


def _object(place: Path | str, line: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInputError(f"{place}:{line}: expected a JSON object, found {kind_of(value)}")
    return value
