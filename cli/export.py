"""`hsstar export`: pairs, samples and rewards as files."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database

if TYPE_CHECKING:
    from hsstar.data.files import ExportFormat


@click.group(epilog="Example:  hsstar export pairs demo --output pairs.jsonl")
def export() -> None:
    """Write pairs, samples or rewards to a file, in the layouts published with HS-STaR."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option(
            "--output", type=click.Path(path_type=Path), help="The file; standard output where left out."
        ),
        click.option("--format", "file_format", type=click.Choice(("jsonl", "parquet")), default="jsonl"),
        click.argument("run"),
    ):
        command = option(command)
    return command


@export.command(epilog="Example:  hsstar export pairs demo --format parquet --output pairs.parquet")
@_options
def pairs(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the preference pairs of RUN: prompt, chosen, rejected, and where they come from."""
    from hsstar.commands.samples import export_pairs

    _export(run, file_format, output, export_pairs, "pairs")


@export.command("samples", epilog="Example:  hsstar export samples demo --output samples.jsonl")
@_options
def samples(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the samples of RUN: query, resp, ref_ans, ans, correct, reward and more."""
    from hsstar.store.read import exports

    _export(run, file_format, output, exports.export_samples, "samples")


@export.command("rewards", epilog="Example:  hsstar export rewards demo --output rewards.jsonl")
@_options
def rewards(run: str, file_format: "ExportFormat", output: Path | None) -> None:
    """Write the scored samples of RUN as reward lines: query, resp, reward, correct."""
    from hsstar.store.read import exports

    _export(run, file_format, output, exports.export_rewards, "rewards")


def _export(
    run: str,
    file_format: "ExportFormat",
    output: Path | None,
    rows: Callable[..., Iterator[dict[str, Any]]],
    what: str,
) -> None:
    from hsstar.data.files import write_rows
    from hsstar.store import runs

    target = output if output is not None else sys.stdout.buffer
    with open_database() as database, database.begin() as connection:
        found = runs.find_run(connection, run)
        written = write_rows(target, rows(connection, found), file_format)
    click.echo(f"{written} {what} written" + (f" to {output}" if output else ""), err=True)
