"""Samples from files: problems with responses that were drawn elsewhere."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, islice
from pathlib import Path

from hsstar.data.bad_rows import BadRows
from hsstar.data.files import read_rows
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.rows import NumberedRow, naming
from hsstar.data.sample_layouts import SampleLayout, detect_samples, group_samples, known_by, read_samples
from hsstar.domain.problems import ImportedSamples

_ROWS_TO_DETECT_LAYOUT = 20


@dataclass(frozen=True, slots=True)
class SampleRow:
    """A row of a file: a problem with its responses, or with one of them."""

    path: Path
    line: int
    samples: ImportedSamples


@dataclass
class SampleFiles:
    """The samples of some files, streamed in order; each file has the layout that its first rows fit."""

    paths: Sequence[Path]
    mapping: ColumnMap = NO_MAP
    bad: BadRows = field(default_factory=BadRows)

    @property
    def name(self) -> str:
        """What the files are called, in short."""
        return f"{self.paths[0].name}{self._others}"

    @property
    def place(self) -> str:
        """Where the files are, for messages."""
        return f"{self.paths[0]}{self._others}"

    @property
    def _others(self) -> str:
        return f" and {len(self.paths) - 1} more" if len(self.paths) > 1 else ""

    def __iter__(self) -> Iterator[SampleRow]:
        """Yield the rows; BadInputError as in `read_rows`, and if a row lacks its problem or responses."""
        for path in self.paths:
            for _, row in self._rows(path):
                yield row

    def by_problem(self) -> Iterator[ImportedSamples]:
        """Yield problems with their responses; errors as in iteration.

        Rows with all responses of a problem are streamed. Single samples are held in memory, because those
        of a problem may be anywhere; they come last.
        """
        single: list[ImportedSamples] = []
        for path in self.paths:
            for layout, row in self._rows(path):
                if layout.several:
                    yield row.samples
                else:
                    single.append(row.samples)
        yield from group_samples(single)

    def _rows(self, path: Path) -> Iterator[tuple[SampleLayout, SampleRow]]:
        rows = self._mapped(path)
        first = list(islice(rows, _ROWS_TO_DETECT_LAYOUT))
        if not first:
            return
        with naming(path, first[0][0]):
            layout = detect_samples([row for _, row in first], tolerant=self.bad.limit > 0)
        for line, row in chain(first, rows):
            with self.bad.left_out(), naming(path, line):
                yield layout, SampleRow(path, line, read_samples(row, layout))

    def _mapped(self, path: Path) -> Iterator[NumberedRow]:
        for line, row in read_rows(path, self.bad):
            with self.bad.left_out(), naming(path, line):
                yield line, self.mapping.apply(row)


def digest_of(samples: Iterable[ImportedSamples]) -> str:
    """Return 32 hex digits that name samples by their content, in whatever layout and order they stand."""
    lines = sorted(
        json.dumps([known_by(entry.problem), *asdict(response).values()])
        for entry in samples
        for response in entry.responses
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:32]
