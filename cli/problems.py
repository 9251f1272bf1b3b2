"""`hsstar problems`: datasets."""

import sys
from pathlib import Path

import click

from hsstar.cli.environment import open_database

FORMATS = ("auto", "gsm8k", "math", "numina", "hs-star")
_SHOWN_UNREADABLE = 5


@click.group(epilog="Example:  hsstar problems import train.jsonl --dataset numina")
def problems() -> None:
    """Import and list problems."""


@problems.command(
    "import", epilog="Example:  hsstar problems import gsm8k.jsonl --format gsm8k --dataset gsm8k"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--format", "file_format", type=click.Choice(FORMATS), default="auto", show_default=True)
@click.option("--dataset", required=True, metavar="NAME", help="The dataset to add the problems to.")
def import_(file: Path, file_format: str, dataset: str) -> None:
    """Import the problems of FILE (JSONL, JSON, CSV or Parquet) into a dataset.

    FILE may be a dataset of the Hugging Face hub: hub:OWNER/NAME, or hub:OWNER/NAME/FILE.
    A problem that the dataset holds already is counted and left out. All of FILE is imported, or nothing.
    """
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.problems import import_problems
    from hsstar.data.hub import local_file
    from hsstar.domain.problems import ProblemFormat

    with open_database() as database:
        report = import_problems(
            database,
            local_file(file),
            ProblemFormat(file_format),
            dataset,
            _progress if sys.stderr.isatty() else None,
        )
    click.echo(
        f"{dataset}: {report.imported} problems imported, {report.duplicates} duplicates left out"
        f" (read {report.read})"
    )
    for line in overlap_lines(report.overlaps):
        click.echo(line, err=True)
    if report.unreadable:
        click.echo(
            f"{len(report.unreadable)} reference answers cannot be read; their problems take no part:",
            err=True,
        )
        for unreadable in report.unreadable[:_SHOWN_UNREADABLE]:
            click.echo(
                f"  problem {unreadable.number}: {' '.join(unreadable.reference.split())[:90]}", err=True
            )
        if left := report.unreadable[_SHOWN_UNREADABLE:]:
            numbers = ", ".join(str(unreadable.number) for unreadable in left)
            click.echo(f"  and the problems {numbers}", err=True)


def _progress(read: int) -> None:
    click.echo(f"\r{read} problems read ", nl=False, err=True)


@problems.command("list", epilog="Example:  hsstar problems list")
def list_() -> None:
    """List the datasets with their counts."""
    from hsstar.cli.views.output import print_table
    from hsstar.store import datasets

    with open_database() as database, database.begin() as connection:
        found = datasets.list_datasets(connection)
    print_table(
        ("dataset", "problems", "unreadable references"),
        [(dataset.name, dataset.problems, dataset.unreadable) for dataset in found],
    )
