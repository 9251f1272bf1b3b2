"""`hsstar export`: what runs have made, and problems, as files or on the hub."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import writing
from hsstar.cli.text import say
from hsstar.data.export_layouts import EXPORT_LAYOUTS, Exported

if TYPE_CHECKING:
    from hsstar.commands.export import ExportReport
    from hsstar.data.writing import ExportFormat


_FORMAT = click.option(
    "--format",
    "file_format",
    type=click.Choice(("jsonl", "json", "csv", "parquet")),
    help="[default: by the ending of the file, else jsonl]",
)
_NAMES: dict[str, click.ParamType[str]] = {"run": RUN, "dataset": click.STRING}


@click.group(epilog="Example:  hsstar export pairs demo --output pairs.jsonl")
def export() -> None:
    """Write what a run has made, or the problems of a dataset, in published layouts; or the iterations."""


def _options(exported: Exported, argument: str = "run", *, required: bool = True) -> Callable[..., Any]:
    layouts = tuple(EXPORT_LAYOUTS[exported])

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--public", is_flag=True, help="Anybody may read a data set that --to makes."),
            click.option("--to", metavar="hub:OWNER/NAME", help="A data set of the hub, instead of a file."),
            writing(passes_force=True),
            _FORMAT,
            click.option("--layout", type=click.Choice(layouts), default=layouts[0], show_default=True),
            click.argument("name", metavar=argument.upper(), type=_NAMES[argument], required=required),
        ):
            command = option(command)
        return command

    return add


@export.command(epilog="Example:  hsstar export pairs demo --layout trl --output pairs.parquet")
@_options("pairs")
def pairs(**options: Any) -> None:
    """Write the preference pairs of RUN: prompt, chosen, rejected, and their origin."""
    _export("pairs", **options)


@export.command(epilog="Example:  hsstar export samples demo --output samples.jsonl")
@_options("samples")
@click.option("--evaluations", is_flag=True, help="Those of the evaluations, not of the iterations.")
@click.option("--sources", is_flag=True, help="Those that [[sources]] drew, such as a teacher.")
@click.option("--correct", is_flag=True, help="Correct samples only.")
def samples(**options: Any) -> None:
    """Write the samples of RUN: query, resp, ref_ans, ans, correct, reward and more."""
    if options["evaluations"] and options["sources"]:
        raise click.UsageError("--evaluations and --sources exclude each other")
    _export("samples", **options)


@export.command(epilog="Example:  hsstar export problems train --layout verl --output train.parquet")
@_options("problems", "dataset")
def problems(**options: Any) -> None:
    """Write the problems of DATASET; they can be imported again."""
    _export("problems", **options)


@export.command(epilog="Example:  hsstar export rewards demo --output rewards.jsonl")
@_options("rewards")
def rewards(**options: Any) -> None:
    """Write the scored samples of RUN as reward lines: query, resp, reward, correct."""
    _export("rewards", **options)


@export.command(epilog="Example:  hsstar export groups demo --by reward --output groups.parquet")
@_options("groups")
@click.option(
    "--by", type=click.Choice(("verdict", "reward")), default="verdict", show_default=True, help="The reward."
)
def groups(**options: Any) -> None:
    """Write the samples of RUN in groups, one per problem, with the advantages of GRPO."""
    _export("groups", **options)


@export.command(epilog="Example:  hsstar export difficulty demo --output difficulty.parquet")
@_options("difficulty")
@click.option("--iteration", type=click.IntRange(0), help="[default: all]")
def difficulty(**options: Any) -> None:
    """Write how hard the problems of RUN are, to filter by: pass_rate, phi_acc, phi_r, level, samples."""
    _export("difficulty", **options)


@export.command(epilog="Example:  hsstar export evaluations demo --output evaluations.csv")
@_options("evaluations", required=False)
def evaluations(**options: Any) -> None:
    """Write the results of the evaluations of RUN, or of all runs: a row per policy and benchmark."""
    _export("evaluations", **options)


@export.command(epilog="Example:  hsstar export iterations demo --output iterations.jsonl")
@click.argument("run", type=RUN)
@_FORMAT
@writing()
def iterations(run: str, file_format: "ExportFormat | None", output: Path | None) -> None:
    """Write a row per iteration of RUN: what it sampled, paired and trained, and `faults`, in words."""
    from dataclasses import asdict

    from hsstar.data.writing import write_rows
    from hsstar.insights.iterations import load_iterations

    chosen = _format(file_format, output)
    with open_database() as database:
        rows = [asdict(summary) for summary in load_iterations(database, run)]
    written = write_rows(output or sys.stdout.buffer, rows, chosen)
    say(f"{written} iterations written" + (f" to {output}" if output else ""), err=True)


def _export(
    exported: Exported,
    *,
    file_format: "ExportFormat | None",
    output: Path | None,
    force: bool,
    to: str | None,
    public: bool,
    **wishes: Any,
) -> None:
    from hsstar.commands import export as commands
    from hsstar.data.hub import upload_name

    if to is not None and output is not None:
        raise click.UsageError("--to and --output exclude each other")
    if public and to is None:
        raise click.UsageError("--public goes with --to")
    request = commands.ExportRequest(exported=exported, **wishes)
    if to is not None:
        repository = upload_name(to)
        with open_database() as database:
            report = commands.export_to_hub(
                database, request, repository, file_format or "jsonl", public=public, replace=force
            )
        _say(exported, report, report.place)
        return
    chosen = _format(file_format, output)
    with open_database() as database:
        report = commands.export_rows(database, request, output or sys.stdout.buffer, chosen)
    _say(exported, report, output)


def _format(wish: "ExportFormat | None", output: Path | None) -> "ExportFormat":
    from hsstar.data.writing import format_of

    return format_of(output, wish) if output is not None else wish or "jsonl"


def _say(exported: Exported, report: "ExportReport", place: object) -> None:
    say(f"{report.written} {exported} written" + (f" to {place}" if place else ""), err=True)
    if report.left_out:
        say(f"{report.left_out} without a verdict left out", err=True)
    if report.without_text:
        lost = f"{report.without_text} samples have no text any more (hsstar samples prune) and are left out"
        say(lost, err=True)
