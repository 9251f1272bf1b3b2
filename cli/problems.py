"""`hsstar problems`: datasets."""

import sys
from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted, writing
from hsstar.cli.text import say
from hsstar.domain.problems import ProblemFormat

_SHOWN_UNREADABLE = 5


@click.group(epilog="Example:  hsstar problems import train.jsonl --dataset numina")
def problems() -> None:
    """Import and list problems; write those of the demo."""


@problems.command(
    "import", epilog="Example:  hsstar problems import gsm8k.jsonl --format gsm8k --dataset gsm8k"
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "file_format",
    type=click.Choice([*map(str, ProblemFormat)]),
    default="auto",
    show_default=True,
)
@click.option("--dataset", required=True, metavar="NAME", help="The dataset to add the problems to.")
def import_(file: Path, file_format: str, dataset: str) -> None:
    """Import the problems of FILE (JSONL, JSON, CSV or Parquet) into a dataset.

    FILE may be a dataset of the Hugging Face hub: hub:OWNER/NAME, or hub:OWNER/NAME/FILE. Or it is made on
    demand: gym:TASK?size=1000&seed=1.
    Problems that the dataset holds already are counted and left out. All of FILE is imported, or nothing.
    """
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.problems import import_problems
    from hsstar.data.hub import local_file

    with open_database() as database:
        report = import_problems(
            database,
            local_file(file),
            ProblemFormat(file_format),
            dataset,
            _progress if sys.stderr.isatty() else None,
        )
    say(
        f"{dataset}: {report.imported} problems imported, {report.duplicates} duplicates left out"
        f" (read {report.read})"
    )
    for line in overlap_lines(report.overlaps):
        say(line, err=True)
    if report.unreadable:
        say(
            f"{len(report.unreadable)} reference answers cannot be read; their problems are left out:",
            err=True,
        )
        for unreadable in report.unreadable[:_SHOWN_UNREADABLE]:
            say(f"  problem {unreadable.number}: {' '.join(unreadable.reference.split())[:90]}", err=True)
        if others := report.unreadable[_SHOWN_UNREADABLE:]:
            numbers = ", ".join(str(unreadable.number) for unreadable in others)
            say(f"  and the problems {numbers}", err=True)


def _progress(read: int) -> None:
    click.echo(f"\r{read} problems read ", nl=False, err=True)


@problems.command("list", epilog="Example:  hsstar problems list")
@formatted
def list_(shown_as: Format) -> None:
    """List the datasets with their counts."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.problems import DatasetEntry, list_datasets

    with open_database() as database:
        show_list(DatasetEntry, list_datasets(database), shown_as)


@problems.command(epilog="Example:  hsstar problems demo --output train.jsonl --count 200")
@writing(required=True)
@click.option("--count", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--held-out", is_flag=True, help="Problems for evaluation; no training problem is among them.")
def demo(output: Path, count: int, seed: int, held_out: bool) -> None:
    """Write the demo's arithmetic problems to a file, in the layout of GSM8K; needs no database."""
    from hsstar.demo.family import distinct_problems, write_problems

    write_problems(output, distinct_problems(count, seed, held_out=held_out))
    say(f"{count} problems written to {output}", err=True)
