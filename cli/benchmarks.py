"""`hsstar benchmarks`: published problems that policies are measured on."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted

if TYPE_CHECKING:
    from hsstar.commands.benchmarks import ImportedBenchmark
    from hsstar.store.database import Database


@click.group(epilog="Example:  hsstar benchmarks list")
def benchmarks() -> None:
    """Import and list benchmarks."""


@benchmarks.command("import", epilog="Example:  hsstar benchmarks import gsm8k,math500 --data ./benchmarks")
@click.argument("names", required=False)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Their files, NAME.jsonl (or .json, .csv, .parquet) in a folder; the hub where left out.",
)
def import_(names: str | None, data: Path | None) -> None:
    """Import the benchmarks NAMES, separated by commas; all seven where left out.

    A file is taken as it was published, and refused if it has not as many problems as the benchmark.
    """
    from hsstar.domain.benchmarks import BENCHMARKS

    with open_database() as database:
        for name in parse_names(names or ",".join(BENCHMARKS)):
            bring(database, name, data)


def parse_names(text: str) -> list[str]:
    """The names in a list with commas, each once.

    Raises:
        BadInputError: there is none.
    """
    from hsstar.domain.errors import BadInputError

    names = list(dict.fromkeys(filter(None, (part.strip() for part in text.split(",")))))
    if not names:
        raise BadInputError("give at least one benchmark, for example gsm8k,math500")
    return names


def bring(
    database: "Database", name: str, data: Path | None, *, partial: bool = False
) -> "ImportedBenchmark":
    """Imports a benchmark unless it is there; says on standard error what was found."""
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.benchmarks import import_benchmark
    from hsstar.domain.benchmarks import find_benchmark

    progress = _progress if sys.stderr.isatty() else None
    found = import_benchmark(database, find_benchmark(name), data, partial=partial, progress=progress)
    unreadable = f", {found.unreadable} references cannot be read" if found.unreadable else ""
    click.echo(f"{found.name}: {found.problems} problems{unreadable}", err=True)
    for line in overlap_lines(found.overlaps):
        click.echo(line, err=True)
    return found


def _progress(read: int) -> None:
    click.echo(f"\r{read} references read ", nl=False, err=True)


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
