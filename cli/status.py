"""`hsstar status`: what is done, in flight, failed and remaining, and why something waits."""

from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.store.database import Database


@click.command(epilog="Example:  hsstar status demo --watch")
@click.argument("run", required=False, type=RUN)
@click.option("--watch", is_flag=True, help="Follow RUN until it ends; Ctrl-C ends the view only.")
@click.option("--samples", is_flag=True, help="With --watch on a terminal: also the newest sample.")
@click.option("--missing", is_flag=True, help="List what RUN lacks, slot by slot, and the job of each slot.")
@formatted
def status(run: str | None, watch: bool, samples: bool, missing: bool, shown_as: Format) -> None:
    """Show the state of RUN: what is done, in flight, failed, remaining, and why something waits.

    Without RUN: every run in one line, and the workers. CSV, JSON and Markdown list the rounds of RUN, or
    the runs; the workers have a command of their own.
    """
    if run is None and (watch or missing):
        raise click.UsageError("--watch and --missing need a RUN")
    if samples and not watch:
        raise click.UsageError("--samples needs --watch")
    if watch and (missing or shown_as != "table"):
        raise click.UsageError("--watch shows lines only; leave --missing and --format out")
    with open_database() as database:
        if run is None:
            _show_all(database, shown_as)
        elif missing:
            _show_missing(database, run, shown_as)
        elif watch:
            from hsstar.cli.iterate import follow_run

            follow_run(database, run, samples=samples)
        else:
            _show_run(database, run, shown_as)


def _show_run(database: "Database", name: str, shown_as: Format) -> None:
    from hsstar.cli.views.output import console, show_list
    from hsstar.cli.views.progress_lines import round_lines
    from hsstar.insights.iterations import fault_lines
    from hsstar.insights.lengths import drift_warnings
    from hsstar.insights.models import rounding_warnings
    from hsstar.insights.progress import OpenRound, exclusions, open_rounds, run_progress, waiting_reasons
    from hsstar.insights.runs import find_run
    from hsstar.store.read.progress import RoundProgress

    run = find_run(database, name)
    progress = run_progress(database, run)
    if shown_as != "table":
        show_list(RoundProgress, progress.rounds, shown_as)
        return
    if not progress.rounds:
        console.print(f"{name} has no iteration yet; start it: hsstar iterate {name} --watch")
        return
    for line in round_lines(progress.rounds, held=progress.hold is not None):
        console.print(line)
    if rounds := open_rounds(progress.rounds):
        console.print()
        show_list(OpenRound, rounds, shown_as, title="samples")
    for reason, problems in exclusions(database, run):
        console.print(f"{problems} problems left out: {reason}")
    warnings = (*drift_warnings(progress.rounds), *rounding_warnings(database, name))
    for line in (*fault_lines(run, progress.rounds), *waiting_reasons(progress.queues), *warnings):
        console.print(line)
    if progress.hold is not None:
        console.print(progress.hold)


def _show_missing(database: "Database", run: str, shown_as: Format) -> None:
    from hsstar.cli.views.output import Columns, ranges, show_list
    from hsstar.insights.runs import list_missing
    from hsstar.store.read.missing import MissingEntry

    rows = list_missing(database, run)
    if not rows and shown_as == "table":
        say(f"{run} lacks nothing that is allotted")
        return
    columns: Columns[MissingEntry] = {
        "round": "round", "problem": "problem", "lacks": "lacks", "slots": lambda row: ranges(row.slots),
        "job": "job", "held by": "held_by", "error": "error",
    }  # fmt: skip
    show_list(MissingEntry, rows, shown_as, columns)


def _show_all(database: "Database", shown_as: Format) -> None:
    from hsstar.cli.views.output import console, show_list
    from hsstar.cli.workers import show_workers
    from hsstar.insights.runs import summarise_runs
    from hsstar.insights.workers import list_workers
    from hsstar.store.read.overview import RunSummary

    show_list(RunSummary, summarise_runs(database), shown_as)
    if shown_as == "table":
        console.print()
        show_workers(list_workers(database), shown_as)
