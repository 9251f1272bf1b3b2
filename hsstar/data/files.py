"""Data files of users: rows in from JSONL, JSON, CSV and Parquet; rows out to JSONL and Parquet.

Every defect of a file is a `BadInputError` of one line that names the file and the line.
"""

import csv
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal

from hsstar.data import gym
from hsstar.data.formats import (
    detect_format,
    group_samples,
    is_single_sample,
    read_problem,
    read_samples,
)
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.problems import ImportedSamples, Problem, ProblemFormat
from hsstar.domain.text import kind_of

NumberedRow = tuple[int, dict[str, Any]]
"""A row with its line in the file (items of a JSON list and rows of a Parquet file are counted from 1)."""

ExportFormat = Literal["jsonl", "parquet"]

ROWS_IN_A_BATCH = 1_000
"""Rows per read of a Parquet file and per flush of an output."""

_ROWS_TO_DETECT_FORMAT = 20


def read_rows(path: Path) -> Iterator[NumberedRow]:
    """Stream the rows of a file in the format of its suffix; an unknown suffix means JSON lines.

    A name that begins with `gym:` is no file: `gym.generate_rows` makes its rows.

    Raises:
        BadInputError: the file is missing, a folder, unreadable, empty, not UTF-8, or broken.
        MissingDependencyError: a Parquet file without pyarrow, a `gym:` name without reasoning-gym.
    """
    if str(path).startswith(gym.PREFIX):
        return _not_empty(path, gym.generate_rows(str(path)))
    return _not_empty(path, _READERS.get(path.suffix.lower(), _read_json_lines)(path))


def read_json_lines(source: Path | IO[bytes]) -> Iterator[NumberedRow]:
    """Stream the rows of JSON lines in a file of any suffix or a stream; errors as in `read_rows`."""
    if isinstance(source, Path):
        return _not_empty(source, _read_json_lines(source))
    return _not_empty(source.name, _json_lines(source.name, source))


def read_problems(path: Path, problem_format: ProblemFormat = ProblemFormat.AUTO) -> Iterator[Problem]:
    """Stream the problems of a file; BadInputError as in `read_rows`, or if a row does not fit the format."""
    rows = read_rows(path)
    if problem_format is ProblemFormat.AUTO:
        first = list(islice(rows, _ROWS_TO_DETECT_FORMAT))
        with naming(path, first[0][0]):
            problem_format = detect_format([row for _, row in first])
        rows = chain(first, rows)
    for line, row in rows:
        with naming(path, line):
            problem = read_problem(row, problem_format)
        yield problem


def read_imported_samples(path: Path) -> Iterator[ImportedSamples]:
    """Yield problems with responses that were drawn elsewhere.

    A file with a problem per line is streamed. A file with a sample per line is held in memory, because the
    samples of a problem may be anywhere. BadInputError as in `read_rows`, or if a row lacks its problem or
    responses.
    """
    rows = read_rows(path)
    first = next(rows)
    samples = _named_samples(path, chain([first], rows))
    return group_samples(samples) if is_single_sample(first[1]) else samples


def write_rows(
    target: Path | IO[bytes], rows: Iterable[Mapping[str, Any]], file_format: ExportFormat = "jsonl"
) -> int:
    """Write rows to a file or a binary stream, batch by batch; return their number.

    A file is written aside and renamed when it is complete. On a stream, JSON lines before an error stay.
    Without rows the result is an empty file (JSONL) or one without columns (Parquet).

    Raises:
        BadInputError: the target cannot be written, or values of a column do not fit one Parquet type.
        MissingDependencyError: Parquet without pyarrow.
    """
    write = _WRITERS[file_format]
    if isinstance(target, Path):
        with _writable(target) as stream:
            return write(stream, rows)
    try:
        try:
            written = write(target, rows)
        finally:
            target.flush()
    except BrokenPipeError:  # the reader of the pipe left: the command line ends quietly
        raise
    except OSError as error:
        raise BadInputError(f"cannot write the output: {_reason(error)}") from None
    return written


@contextmanager
def naming(place: Path | str, line: int) -> Iterator[None]:
    """Add file and line to the error of a row."""
    try:
        yield
    except BadInputError as error:
        raise BadInputError(f"{place}:{line}: {error}") from None


def _named_samples(path: Path, rows: Iterable[NumberedRow]) -> Iterator[ImportedSamples]:
    for line, row in rows:
        with naming(path, line):
            samples = read_samples(row)
        yield samples


@contextmanager
def _readable(place: Path | str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise BadInputError(f"{place} does not exist") from None
    except IsADirectoryError:
        raise BadInputError(f"{place} is a folder, expected a file") from None
    except OSError as error:
        raise BadInputError(f"cannot read {place}: {_reason(error)}") from None


def _not_empty(place: Path | str, rows: Iterator[NumberedRow]) -> Iterator[NumberedRow]:
    empty = True
    with _readable(place):
        for row in rows:
            empty = False
            yield row
    if empty:
        raise BadInputError(f"{place} holds no rows")


def _read_json_lines(path: Path) -> Iterator[NumberedRow]:
    with path.open("rb") as stream:
        yield from _json_lines(path, stream)


def _json_lines(place: Path | str, stream: IO[bytes]) -> Iterator[NumberedRow]:
    for number, raw in enumerate(stream, start=1):
        text = _decoded(place, number, raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw).strip()
        if text:
            yield number, _object(place, number, _parsed(place, number, text))


def _read_json(path: Path) -> Iterator[NumberedRow]:
    """Yield the items of a JSON list, or JSON lines in a file with the suffix of JSON."""
    with path.open("rb") as stream:
        start = stream.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    if start != b"[":
        yield from _read_json_lines(path)
        return
    text = _decoded(path, 1, path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    for number, item in enumerate(_parsed(path, 1, text), start=1):
        yield number, _object(path, number, item)


def _read_csv(path: Path) -> Iterator[NumberedRow]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    fields = len(reader.fieldnames or ())
                    raise BadInputError(
                        f"{path}:{reader.line_num}: expected {fields} fields as in the header"
                    )
                yield reader.line_num, row
        except UnicodeDecodeError as error:
            raise BadInputError(f"{path}: not UTF-8 after line {reader.line_num} ({error.reason})") from None
        except csv.Error as error:
            raise BadInputError(f"{path}:{reader.line_num}: broken CSV ({error})") from None


def _read_parquet(path: Path) -> Iterator[NumberedRow]:
    pyarrow, parquet = _parquet_modules()
    number = 0
    try:
        with path.open("rb") as stream:
            for batch in parquet.ParquetFile(stream).iter_batches(batch_size=ROWS_IN_A_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except pyarrow.ArrowException as error:
        raise BadInputError(f"{path} is not a readable Parquet file ({_first_line(error)})") from None


_READERS: dict[str, Callable[[Path], Iterator[NumberedRow]]] = {
    ".json": _read_json,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}


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
        raise BadInputError(f"{place}:{line}: cannot read the JSON ({_first_line(error)})") from None


def _object(place: Path | str, line: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInputError(f"{place}:{line}: expected a JSON object, found {kind_of(value)}")
    return value


@contextmanager
def _writable(target: Path) -> Iterator[IO[bytes]]:
    """Open a stream whose bytes become the target at the end, or leave no trace on an error."""
    try:
        target = target.resolve()
        if target.is_dir():
            raise BadInputError(f"{target} is a folder, expected a file")
        if target.exists() and not target.is_file():  # no file may replace a device or a pipe
            with target.open("wb") as stream:
                yield stream
            return
        with _aside(target) as stream:
            yield stream
    except OSError as error:
        raise BadInputError(f"cannot write {target}: {_reason(error)}") from None


@contextmanager
def _aside(target: Path) -> Iterator[IO[bytes]]:
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with aside.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)


def _write_json_lines(stream: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    written = 0
    for row in rows:
        line = json.dumps(row, ensure_ascii=False, default=_plain) + "\n"
        stream.write(line.encode("utf-8", "replace"))
        written += 1
        if written % ROWS_IN_A_BATCH == 0:
            stream.flush()
    return written


def _write_parquet(stream: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one Parquet file.

    Column types are known only after the last batch (a column may start with nulls or whole numbers), so
    batches go into segments of one schema each, which are merged at the end.
    """
    pyarrow, _ = _parquet_modules()
    try:
        with tempfile.TemporaryDirectory(prefix="hsstar-export-") as folder:
            segments = _ParquetSegments(Path(folder))
            for batch in _batches(rows):
                segments.add(batch)
            segments.merge_into(stream)
            return segments.written
    except pyarrow.ArrowException as error:
        raise BadInputError(f"the rows do not fit one Parquet table ({_first_line(error)})") from None


class _ParquetSegments:
    """Batches of one Parquet file: a new segment begins when a batch widens the schema."""

    def __init__(self, folder: Path) -> None:
        self.written = 0
        self._pyarrow, self._parquet = _parquet_modules()
        self._folder = folder
        self._paths: list[Path] = []
        self._schema = self._pyarrow.schema([])
        self._writer: Any = None

    def add(self, rows: list[Mapping[str, Any]]) -> None:
        names = dict.fromkeys(name for row in rows for name in row)
        columns = {name: [row.get(name) for row in rows] for name in names}
        schema = self._pyarrow.RecordBatch.from_pydict(columns).schema
        wider = self._pyarrow.unify_schemas([self._schema, schema], promote_options="permissive")
        if self._writer is None or wider != self._schema:
            self._begin_segment(wider)
        self._writer.write_batch(self._pyarrow.RecordBatch.from_pylist(rows, schema=wider))
        self.written += len(rows)

    def merge_into(self, stream: IO[bytes]) -> None:
        if self._writer is None:
            self._begin_segment(self._schema)
        self._writer.close()
        if len(self._paths) == 1:
            with self._paths[0].open("rb") as segment:
                shutil.copyfileobj(segment, stream)
            return
        with self._parquet.ParquetWriter(stream, self._schema) as writer:
            for path in self._paths:
                for batch in self._parquet.ParquetFile(path).iter_batches(batch_size=ROWS_IN_A_BATCH):
                    rows = batch.to_pylist()
                    writer.write_batch(self._pyarrow.RecordBatch.from_pylist(rows, schema=self._schema))

    def _begin_segment(self, schema: Any) -> None:
        if self._writer is not None:
            self._writer.close()
        self._schema = schema
        self._paths.append(self._folder / f"{len(self._paths)}.parquet")
        self._writer = self._parquet.ParquetWriter(self._paths[-1], schema)


_WRITERS: dict[ExportFormat, Callable[[IO[bytes], Iterable[Mapping[str, Any]]], int]] = {
    "jsonl": _write_json_lines,
    "parquet": _write_parquet,
}


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS_IN_A_BATCH)):
        yield batch


def _plain(value: object) -> object:
    """Return a value without a JSON type as text or number."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)


def _parquet_modules() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingDependencyError(
            'Parquet files need pyarrow: install it with pip install "hsstar[parquet]"'
        ) from None
    return pyarrow, pyarrow.parquet


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else _first_line(error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
