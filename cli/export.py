"""`hsstar export`: pairs, samples and rewards as files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database

if TYPE_CHECKING:
    from hsstar.commands.export import Exported
    from hsstar.data.files import ExportFormat


@click.group(epilog="Example:  hsstar export pairs demo --output pairs.jsonl")
def export() -> None:
    """Write pairs, samples or rewards to a file, in the layouts published with HS-STaR."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--output", type=click.Path(path_type=Path), help="The file.  [default: standard output]"
        ),
        click.option("--format", "file_format", type=click.Choice(("jsonl", "parquet")), default="jsonl"),
        click.argument("run"),
    ):
        command = option(command)
    return command


@export.command(epilog="Example:  hsstar export pairs demo --format parquet --output pairs.parquet")
@_options
def pairs(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the preference pairs of RUN: prompt, chosen, rejected, and their origin."""
    _export(run, "pairs", file_format, output)


@export.command(epilog="Example:  hsstar export samples demo --output samples.jsonl")
@_options
def samples(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the samples of RUN: query, resp, ref_ans, ans, correct, reward and more."""
    _export(run, "samples", file_format, output)


@export.command(epilog="Example:  hsstar export rewards demo --output rewards.jsonl")
@_options
def rewards(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the scored samples of RUN as reward lines: query, resp, reward, correct."""
    _export(run, "rewards", file_format, output)


def _export(run: str, rows: "Exported", file_format: "ExportFormat", output: Path | None) -> None:
    from hsstar.commands.export import export_rows

    with open_database() as database:
        written = export_rows(database, run, rows, output or sys.stdout.buffer, file_format)
    click.echo(f"{written} {rows} written" + (f" to {output}" if output else ""), err=True)
