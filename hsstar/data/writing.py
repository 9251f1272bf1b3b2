"""Rows out: to JSON lines, JSON, CSV and Parquet, whole or not at all."""

import csv
import gzip
import io
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal, cast

from hsstar.data.rows import ROWS_IN_A_BATCH, first_line, parquet_modules, reason_of
from hsstar.domain.errors import BadInputError

ExportFormat = Literal["jsonl", "json", "csv", "parquet"]

_GZIP = ".gz"
_ENDINGS: dict[str, ExportFormat] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}


def format_of(file: Path, wish: ExportFormat | None = None) -> ExportFormat:
    """Return the format by a file's ending, which may have `.gz` behind it, or the one that is wished for.

    Raise BadInputError if the ending says another one, or none.
    """
    compressed = file.suffix.lower() == _GZIP
    ending = (Path(file.stem).suffix if compressed else file.suffix).lower()
    named = _ENDINGS.get(ending)
    if wish is not None and named is not None and wish != named:
        raise BadInputError(f"--format {wish} does not go with a file named {file}")
    if wish is None and named is None:
        endings = ", ".join(_ENDINGS)
        raise BadInputError(f"{file}: its ending says no format ({endings}); rename it, or give --format")
    chosen = wish or named or "jsonl"
    if compressed and chosen == "parquet":
        raise BadInputError(f"{file}: Parquet is compressed by itself; leave {_GZIP} out")
    return chosen


def write_rows(
    target: Path | IO[bytes], rows: Iterable[Mapping[str, Any]], file_format: ExportFormat = "jsonl"
) -> int:
    """Write rows to a file or a binary stream, batch by batch; return their number.

    A file is written aside and renamed when it is complete. On a stream, JSON lines before an error stay.
    Without rows the result is an empty file (a list in JSON) or one without columns (Parquet). NaN and
    infinity become null. In CSV the first row names the columns, and lists are JSON.

    Raises:
        BadInputError: the target cannot be written, or values of a column do not fit one Parquet type.
        MissingDependencyError: Parquet without pyarrow.
    """
    write, rows = _WRITERS[file_format], map(finite, rows)
    if isinstance(target, Path):
        with _writable(target) as stream, _compressed(target, stream) as plain:
            return write(plain, rows)
    try:
        try:
            written = write(target, rows)
        finally:
            target.flush()
    except BrokenPipeError:  # the reader of the pipe left: the command line ends quietly
        raise
    except OSError as error:
        raise BadInputError(f"cannot write the output: {reason_of(error)}") from None
    return written


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
        raise BadInputError(f"cannot write {target}: {reason_of(error)}") from None


@contextmanager
def _compressed(target: Path, stream: IO[bytes]) -> Iterator[IO[bytes]]:
    """Compress what is written to a file whose name ends with `.gz`; equal rows give equal bytes."""
    if target.suffix.lower() != _GZIP:
        yield stream
        return
    with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as plain:
        yield cast(IO[bytes], plain)


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


def _write_json(stream: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    written = 0
    for row in rows:
        text = ("[\n" if not written else ",\n") + json.dumps(row, ensure_ascii=False, default=_plain)
        stream.write(text.encode("utf-8", "replace"))
        written += 1
    stream.write(b"\n]\n" if written else b"[]\n")
    return written


def _write_csv(stream: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
    written, writer = 0, None
    try:
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(text, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({key: _cell(value) for key, value in row.items()})
            written += 1
    except ValueError as error:
        raise BadInputError(f"the rows do not fit one CSV table ({first_line(error)})") from None
    finally:
        text.flush()
        text.detach()
    return written


def _cell(value: Any) -> Any:
    return (
        json.dumps(value, ensure_ascii=False, default=_plain)
        if isinstance(value, list | dict | bool)
        else value
    )


def _write_parquet(stream: IO[bytes], rows: Iterable[Mapping[str, Any]]) -> int:
    """Write one Parquet file.

    Column types are known only after the last batch (a column may start with nulls or whole numbers), so
    batches go into segments of one schema each, which are merged at the end.
    """
    pyarrow, _ = parquet_modules()
    try:
        with tempfile.TemporaryDirectory(prefix="hsstar-export-") as folder:
            segments = _ParquetSegments(Path(folder))
            for batch in _batches(rows):
                segments.add(batch)
            segments.merge_into(stream)
            return segments.written
    except pyarrow.ArrowException as error:
        raise BadInputError(f"the rows do not fit one Parquet table ({first_line(error)})") from None


class _ParquetSegments:
    """Batches of one Parquet file: a new segment begins when a batch widens the schema."""

    def __init__(self, folder: Path) -> None:
        self.written = 0
        self._pyarrow, self._parquet = parquet_modules()
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
    "json": _write_json,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS_IN_A_BATCH)):
        yield batch


def finite(value: Any) -> Any:
    """Return a value with null in place of NaN and infinity, in lists and objects too."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(part) for key, part in value.items()}
        case list() | tuple():
            return [finite(part) for part in value]
    return value


def _plain(value: object) -> object:
    """Return a value without a JSON type as text or number."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return float(value) if isinstance(value, Decimal) else str(value)
