"""Samples from files: problems with responses that were drawn elsewhere."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import Any

from hsstar.data.files import read_rows
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.rows import NumberedRow, naming
from hsstar.data.sample_layouts import SampleLayout, detect_samples, group_samples, known_by, read_samples
from hsstar.domain.problems import ImportedSamples

_ROWS_TO_DETECT_LAYOUT = 20


def read_imported_samples(path: Path, mapping: ColumnMap = NO_MAP) -> Iterator[ImportedSamples]:
    """Yield the problems of a file with their responses; errors as in `read_sample_rows`.

    A file with a problem per line is streamed. A file with a sample per line is held in memory, because the
    samples of a problem may be anywhere.
    """
    layout, rows = _read(path, mapping)
    return rows if layout.several else group_samples(rows)


def read_sample_rows(path: Path, mapping: ColumnMap = NO_MAP) -> Iterator[ImportedSamples]:
    """Stream the rows of a file, each a problem with its responses or with one of them.

    Raise BadInputError as `read_rows`, and if a row lacks its problem or responses.
    """
    return _read(path, mapping)[1]


def _read(path: Path, mapping: ColumnMap) -> tuple[SampleLayout, Iterator[ImportedSamples]]:
    rows = ((line, _mapped(path, line, row, mapping)) for line, row in read_rows(path))
    first = list(islice(rows, _ROWS_TO_DETECT_LAYOUT))
    with naming(path, first[0][0]):
        layout = detect_samples([row for _, row in first])
    return layout, _samples(path, layout, chain(first, rows))


def _samples(path: Path, layout: SampleLayout, rows: Iterable[NumberedRow]) -> Iterator[ImportedSamples]:
    for line, row in rows:
        with naming(path, line):
            samples = read_samples(row, layout)
        yield samples


def digest_of(samples: Iterable[ImportedSamples]) -> str:
    """Return 32 hex digits that name samples by their content, in whatever layout and order they stand."""
    lines = sorted(
        json.dumps([known_by(entry.problem), *asdict(response).values()])
        for entry in samples
        for response in entry.responses
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]


def _mapped(path: Path, line: int, row: dict[str, Any], mapping: ColumnMap) -> dict[str, Any]:
    with naming(path, line):
        return mapping.apply(row)
