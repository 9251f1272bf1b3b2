"""`hsstar benchmarks`: published problems that policies are measured on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import FilePath, Format, formatted, verification_kind
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.commands.benchmarks import ImportedBenchmark


@click.group(epilog="Example:  hsstar benchmarks list")
def benchmarks() -> None:
    """Import and list benchmarks."""


@benchmarks.command("import", epilog="Example:  hsstar benchmarks import gsm8k,math500 --data ./benchmarks")
@click.argument("names", required=False)
@click.option(
    "--data",
    type=FilePath(),
    help="Their files, NAME.jsonl (or .json, .csv, .parquet) in a folder; the hub where left out.",
)
@verification_kind
def import_(names: str | None, data: Path | None, kind: str) -> None:
    """Import the benchmarks NAMES, separated by commas; all seven where left out.

    A file is taken as it was published, and refused if it has not as many problems as the benchmark.
    """
    from hsstar.commands.benchmarks import ensure_imported
    from hsstar.domain.benchmarks import BENCHMARKS, find_benchmark
    from hsstar.verifier.kinds import settings_for_references

    verification = settings_for_references(kind)
    with open_database() as database:
        for name in parse_names(names or ",".join(BENCHMARKS)):
            benchmark, progress = find_benchmark(name), import_progress()
            show_import(
                ensure_imported(database, benchmark, data, progress=progress, verification=verification)
            )


def parse_names(text: str) -> list[str]:
    """The names in a list with commas, each once; raise BadInputError without any."""
    from hsstar.domain.errors import BadInputError

    names = list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    if not names:
        raise BadInputError("give at least one benchmark, for example gsm8k,math500")
    return names


def show_import(benchmark: "ImportedBenchmark") -> None:
    """Say on standard error what an imported benchmark holds."""
    from hsstar.insights.overlaps import overlap_lines

    unreadable = f", {benchmark.unreadable} references cannot be read" if benchmark.unreadable else ""
    say(f"{benchmark.name}: {benchmark.problems} problems{unreadable}", err=True)
    for line in overlap_lines(benchmark.overlaps):
        say(line, err=True)


def import_progress() -> Callable[[int], None] | None:
    """Return what shows the progress of an import on a terminal; None without one."""

    def show(read: int) -> None:
        click.echo(f"\r{read} references read ", nl=False, err=True)

    return show if sys.stderr.isatty() else None


@benchmarks.command("list", epilog="Example:  hsstar benchmarks list")
@formatted
def list_(shown_as: Format) -> None:
    """List the known benchmarks with their protocol, and which of them are imported."""
    from hsstar.cli.views.output import Columns, show_list
    from hsstar.insights.benchmarks import BenchmarkEntry, list_benchmarks

    columns: Columns[BenchmarkEntry] = {
        "benchmark": "benchmark", "title": "title", "problems": "problems", "decoding": "decoding",
        "imported": lambda entry: "yes" if entry.imported else "no",
        "unreadable references": "unreadable_references",
    }  # fmt: skip
    with open_database() as database:
        show_list(BenchmarkEntry, list_benchmarks(database), shown_as, columns)
