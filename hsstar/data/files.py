"""Data files of users: problems from files of every kind.

Every defect of a file is a `BadInputError` of one line that names the file and the line.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import IO

from hsstar.data import gym, hub
from hsstar.data.bad_rows import BadRows
from hsstar.data.layouts import detect_format, read_problem
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.rows import (
    NumberedRow,
    json_lines,
    naming,
    not_empty,
    rows_of_file,
)
from hsstar.domain.problems import Problem, ProblemFormat

_ROWS_TO_DETECT_FORMAT = 20


def read_rows(path: Path, bad: BadRows | None = None) -> Iterator[NumberedRow]:
    """Stream the rows of a file in the format of its suffix; an unknown suffix means JSON lines.

    Names that begin with `gym:` (`gym.generate_rows`), and those of the hub with a configuration or split
    (`hub.stream_rows`), are no files. `bad` takes broken rows.

    Raises:
        BadInputError: the file is missing, a folder, unreadable, empty, not UTF-8, or broken.
        MissingDependencyError: a Parquet file without pyarrow, a `gym:` name without reasoning-gym.
    """
    if str(path).startswith(gym.PREFIX):
        return not_empty(path, gym.generate_rows(str(path)))
    if hub.is_streamed(str(path)):
        return not_empty(path, hub.stream_rows(str(path)))
    return rows_of_file(path, bad or BadRows())


def read_json_lines(source: Path | IO[bytes], bad: BadRows | None = None) -> Iterator[NumberedRow]:
    """Stream the rows of JSON lines in a file of any suffix or a stream; errors as in `read_rows`."""
    return json_lines(source, bad or BadRows())


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
            yield from self.read(path, read_rows(path, self.bad))

    def read(self, path: Path, rows: Iterator[NumberedRow]) -> Iterator[Problem]:
        """Yield the problems in the rows of a file; errors as in iteration."""
        layout = ProblemFormat.HSSTAR if self.mapping else self.format
        if layout is ProblemFormat.AUTO:
            first = list(islice(rows, _ROWS_TO_DETECT_FORMAT))
            with naming(path, first[0][0] if first else 1):
                layout = detect_format([row for _, row in first], tolerant=self.bad.limit > 0)
            rows = chain(first, rows)
        for line, row in rows:
            with self.bad.left_out(), naming(path, line):
                problem = read_problem(self.mapping.apply(row), layout)
                self.recognised[layout] += 1
                yield problem


def read_problems(path: Path, problem_format: ProblemFormat = ProblemFormat.AUTO) -> Iterator[Problem]:
    """Stream the problems of a file; BadInputError as in `read_rows`, or if a row does not fit the format."""
    return iter(ProblemFiles([path], problem_format))
