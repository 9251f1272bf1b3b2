"""Data files of users: problems from files of every kind; rows out to JSONL and Parquet.

Every defect of a file is a `BadInputError` of one line that names the file and the line.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal

from hsstar.data import gym
from hsstar.data.bad_rows import BadRows
from hsstar.data.layouts import detect_format, read_problem
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.rows import (
    ROWS_IN_A_BATCH,
    NumberedRow,
    first_line,
    json_lines,
    naming,
    not_empty,
    parquet_modules,
    reason_of,
    rows_of_file,
)
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat

ExportFormat = Literal["jsonl", "parquet"]

_ROWS_TO_DETECT_FORMAT = 20


def read_rows(path: Path, bad: BadRows | None = None) -> Iterator[NumberedRow]:
    """Stream the rows of a file in the format of its suffix; an unknown suffix means JSON lines.

    A name that begins with `gym:` is no file: `gym.generate_rows` makes its rows. `bad` takes broken rows.

    Raises:
        BadInputError: the file is missing, a folder, unreadable, empty, not UTF-8, or broken.
        MissingDependencyError: a Parquet file without pyarrow, a `gym:` name without reasoning-gym.
    """
    if str(path).startswith(gym.PREFIX):
        return not_empty(path, gym.generate_rows(str(path)))
    return rows_of_file(path, bad or BadRows())


def read_json_lines(source: Path | IO[bytes]) -> Iterator[NumberedRow]:
    """Stream the rows of JSON lines in a file of any suffix or a stream; errors as in `read_rows`."""
    return json_lines(source, BadRows())


@dataclass
class ProblemFiles:
    """The problems of some files, streamed in order: how they are read, and afterwards what they were.

    With a mapping the rows become those of hsstar's own layout; else each file has the layout that its first
    rows fit, unless `format` says it.
    """

    paths: Sequence[Path]
    format: ProblemFormat = ProblemFormat.AUTO
    mapping: ColumnMap = NO_MAP
    bad: BadRows = field(default_factory=BadRows)
    recognised: Counter[ProblemFormat] = field(default_factory=Counter)  # problems by layout

    def __iter__(self) -> Iterator[Problem]:
        """Yield the problems; BadInputError as in `read_rows`, or if a row does not fit the layout."""
        for path in self.paths:
            yield from self._problems(path)

    def _problems(self, path: Path) -> Iterator[Problem]:
        rows = read_rows(path, self.bad)
        layout = ProblemFormat.HSSTAR if self.mapping else self.format
        if layout is ProblemFormat.AUTO:
            first = list(islice(rows, _ROWS_TO_DETECT_FORMAT))
            with naming(path, first[0][0] if first else 1):
                layout = detect_format([row for _, row in first], tolerant=self.bad.limit > 0)
            rows = chain(first, rows)
        for line, row in rows:
            with self.bad.left_out(), naming(path, line):
                yield read_problem(self.mapping.apply(row), layout)
                self.recognised[layout] += 1


def read_problems(path: Path, problem_format: ProblemFormat = ProblemFormat.AUTO) -> Iterator[Problem]:
    """Stream the problems of a file; BadInputError as in `read_rows`, or if a row does not fit the format."""
    return iter(ProblemFiles([path], problem_format))


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
