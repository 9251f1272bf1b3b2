"""The report of an import of problems, in lines; and its progress."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from hsstar.cli.views.rows import first_of, left_out_lines
from hsstar.insights.overlaps import overlap_lines

if TYPE_CHECKING:
    from hsstar.commands.problems import ImportReport
    from hsstar.commands.references import NamedReference, ReferenceReport
    from hsstar.data.files import ProblemFiles

_LONGEST = 90
_IN_WORDS = {
    "value": "readable",
    "words": "in words",
    "tests": "tests of programs",
    "unreadable": "unreadable",
    "inconsistent": "not equal to themselves",
}


@contextmanager
def import_progress(files: Sequence[Path]) -> Iterator[Callable[[int], None] | None]:
    """Show a bar on a terminal while the block runs; its value takes the number of problems examined."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from hsstar.data.sources import total_rows

    columns = (TextColumn("{task.completed:,.0f} problems"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total_rows(files))
        yield lambda count: bar.update(task, completed=count)


def shown_lines(source: "ProblemFiles", count: int) -> Iterator[str]:
    """Yield the first problems of a source as they are read."""
    for number, problem in enumerate(islice(source, count), start=1):
        fields = ("statement", "reference", "solution", "subject", "level", "source_id", "doubt")
        yield f"problem {number}"
        for field in fields:
            if (value := getattr(problem, field)) is not None:
                yield f"  {field}: {_short(value) or '(none)'}"
    yield from reading_lines(source)


def reading_lines(source: "ProblemFiles") -> Iterator[str]:
    """Yield which layouts were recognised, and which rows were left out."""
    from hsstar.domain.problems import ProblemFormat

    if source.format is ProblemFormat.AUTO and not source.mapping:
        layouts = ", ".join(f"{layout} ({count})" for layout, count in source.recognised.items())
        yield f"layout: {layouts}"
    yield from left_out_lines(source.bad)


def report_lines(report: "ImportReport", dataset: str, replaced: bool) -> Iterator[str]:
    """Yield the lines that follow the counts of an import."""
    yield from overlap_lines(report.overlaps)
    yield from reference_lines(report.references)
    if report.doubtful:
        yield (
            f"the source speaks against {report.doubtful} problems ({report.first_doubt}); "
            "--skip-doubtful leaves them out"
        )
    if report.replaced:
        yield f"{report.replaced} reference answers replaced"
    if report.runs:
        yield f"judged by the old ones: {', '.join(report.runs)}; judge again: hsstar reverify RUN"
    yield from _conflict_lines(report, dataset, replaced)


def reference_lines(references: "ReferenceReport") -> Iterator[str]:
    """Yield the reference answers of an import by kind, and the first that cannot be used."""
    from hsstar.verifier import ReferenceKind

    counted = (
        f"{references.counts[kind]} {_IN_WORDS[kind]} (as {_named(references.examples[kind])})"
        for kind in ReferenceKind
        if references.counts[kind]
    )
    yield f"references: {', '.join(counted) or 'none'}"
    if references.sentences:
        yield f"{references.sentences} of them stood in a sentence, and are its one value"
    if references.unusable:
        count = references.unusable_count
        yield f"{count} reference answers cannot be used; their problems are left out:"
        named = [f"  problem {entry.number}: {_named(entry)}" for entry in references.unusable]
        yield from first_of(named, count)


def _conflict_lines(report: "ImportReport", dataset: str, replaced: bool) -> Iterator[str]:
    within = [conflict for conflict in report.conflicts if not conflict.is_stored]
    stored = [conflict for conflict in report.conflicts if conflict.is_stored]
    if within:
        yield f"{len(within)} equal statements have another reference answer; the first one stays:"
        lines = [f"  {_short(one.statement)}: {_short(one.kept)} and {_short(one.other)}" for one in within]
        yield from first_of(lines, len(within))
    if stored and not replaced:
        yield f"{len(stored)} problems of {dataset} have another reference answer there, which stays"
        lines = [f"  {_short(one.statement)}: {_short(one.kept)}, here {_short(one.other)}" for one in stored]
        yield from first_of(lines, len(stored))
        yield "take those of the file: --replace"


def _named(entry: "NamedReference") -> str:
    return _short(entry.reference) or "no answer"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…"
