"""`hsstar export`: pairs, samples and rewards as files."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import writing
from hsstar.cli.text import say
from hsstar.domain.errors import BadInputError

if TYPE_CHECKING:
    from hsstar.commands.export import Exported
    from hsstar.data.files import ExportFormat


_SUFFIXES: "dict[str, ExportFormat]" = {".parquet": "parquet", ".jsonl": "jsonl", ".json": "jsonl"}


@click.group(epilog="Example:  hsstar export pairs demo --output pairs.jsonl")
def export() -> None:
    """Write pairs, samples or rewards to a file, in the layouts published with HS-STaR; or the iterations."""


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        writing(),
        click.option(
            "--format",
            "file_format",
            type=click.Choice(("jsonl", "parquet")),
            help="[default: by the name of the file, else jsonl]",
        ),
        click.argument("run", type=RUN),
    ):
        command = option(command)
    return command


@export.command(epilog="Example:  hsstar export pairs demo --format parquet --output pairs.parquet")
@_options
def pairs(run: str, file_format: "ExportFormat | None", output: Path | None) -> None:
    """Write the preference pairs of RUN: prompt, chosen, rejected, and their origin."""
    _export(run, "pairs", file_format, output)


@export.command(epilog="Example:  hsstar export samples demo --output samples.jsonl")
@_options
def samples(run: str, file_format: "ExportFormat | None", output: Path | None) -> None:
    """Write the samples of RUN: query, resp, ref_ans, ans, correct, reward and more."""
    _export(run, "samples", file_format, output)


@export.command(epilog="Example:  hsstar export rewards demo --output rewards.jsonl")
@_options
def rewards(run: str, file_format: "ExportFormat | None", output: Path | None) -> None:
    """Write the scored samples of RUN as reward lines: query, resp, reward, correct."""
    _export(run, "rewards", file_format, output)


@export.command(epilog="Example:  hsstar export iterations demo --output iterations.jsonl")
@_options
def iterations(run: str, file_format: "ExportFormat | None", output: Path | None) -> None:
    """Write a row per iteration of RUN: what it sampled, paired and trained, and `faults`, in words."""
    from dataclasses import asdict

    from hsstar.data.files import write_rows
    from hsstar.insights.iterations import load_iterations

    file_format = _format(file_format, output)
    with open_database() as database:
        rows = [asdict(summary) for summary in load_iterations(database, run)]
    _say_written(write_rows(output or sys.stdout.buffer, rows, file_format), "iterations", output)


def _export(run: str, rows: "Exported", file_format: "ExportFormat | None", output: Path | None) -> None:
    from hsstar.commands.export import count_without_text, export_rows

    file_format = _format(file_format, output)
    with open_database() as database:
        written = export_rows(database, run, rows, output or sys.stdout.buffer, file_format)
        without_text = count_without_text(database, run)
    _say_written(written, rows, output)
    if without_text:
        say(f"{without_text} samples have no text any more (hsstar samples prune) and are left out", err=True)


def _say_written(written: int, rows: str, output: Path | None) -> None:
    say(f"{written} {rows} written" + (f" to {output}" if output else ""), err=True)


def _format(wish: "ExportFormat | None", output: Path | None) -> "ExportFormat":
    """Return the format that the user asks for, by `--format` or by the file's name; these may not differ."""
    named: ExportFormat | None = _SUFFIXES.get(output.suffix.lower()) if output is not None else None
    if wish is not None and named is not None and wish != named:
        raise BadInputError(f"--format {wish} does not go with a file named {output}")
    return wish or named or "jsonl"
