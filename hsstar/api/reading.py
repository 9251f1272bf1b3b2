"""How arguments say which files are read, and what becomes of rows that cannot be used."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from hsstar.api.filters import one_of
from hsstar.data.bad_rows import BadRows
from hsstar.data.files import ProblemFiles
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.samples import SampleFiles
from hsstar.data.sources import files_of
from hsstar.domain.problems import ProblemFormat

Names = str | Path | Sequence[str | Path]
Paths = Mapping[str, str]
"""Where a field is, as in `{"statement": "prompt.-1.content"}`."""


def problem_files(
    names: Names, file_format: ProblemFormat | str, mapping: Paths | None, bad: BadRows
) -> ProblemFiles:
    """Return files, folders, `hub:` or `gym:` names as problems."""
    columns = _columns(mapping, ("statement",), ("reference", "solution"))
    return ProblemFiles(
        files_of(_listed(names)), one_of(ProblemFormat, "file_format", file_format), columns, bad
    )


def solution_files(
    names: Names, file_format: ProblemFormat | str, mapping: Paths | None, bad: BadRows
) -> ProblemFiles:
    """Return the same as problems with solutions."""
    columns = _columns(mapping, ("statement",), ("solution",))
    return ProblemFiles(
        files_of(_listed(names)), one_of(ProblemFormat, "file_format", file_format), columns, bad
    )


def sample_files(names: Names, mapping: Paths | None, bad: BadRows) -> SampleFiles:
    """Return the same as samples that were drawn elsewhere."""
    columns = _columns(mapping, ("statement",), ("response", "responses"))
    return SampleFiles(files_of(_listed(names)), columns, bad)


def warn_of(bad: BadRows) -> None:
    """Warn of the rows that were left out, with the first of them."""
    if bad.count:
        warnings.warn(f"{bad.count} rows are left out; the first: {bad.messages[0]}", stacklevel=3)


def _listed(names: Names) -> Sequence[str | Path]:
    return [names] if isinstance(names, str | Path) else names


def _columns(mapping: Paths | None, *needed: tuple[str, ...]) -> ColumnMap:
    if mapping is None:
        return NO_MAP
    return ColumnMap.parse([f"{field}={path}" for field, path in mapping.items()], *needed)
