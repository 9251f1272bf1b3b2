"""`hsstar show`: a run on one page."""

from contextlib import suppress

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted
from hsstar.domain.errors import NotFoundError


@click.command(epilog="Example:  hsstar show demo")
@click.argument("run", type=RUN)
@formatted
def show(run: str, shown_as: Format) -> None:
    """Show RUN on one page: how each iteration went, levels, accuracies, figures, and what is wrong.

    JSON has all of it; CSV and Markdown have the figures of the iterations.
    """
    from hsstar.cli.report import print_iterations
    from hsstar.cli.views.output import console, print_json
    from hsstar.cli.views.results import show_run_table
    from hsstar.cli.views.run_page import RunPage, flow_lines, further_lines, head_lines
    from hsstar.insights.evaluation import run_table
    from hsstar.insights.iterations import load_iterations
    from hsstar.insights.lengths import drift_warnings
    from hsstar.insights.models import rounding_warnings
    from hsstar.insights.progress import run_progress, waiting_reasons
    from hsstar.insights.runs import describe_run, find_run

    with open_database() as database:
        stored = find_run(database, run)
        progress = run_progress(database, stored)
        page = RunPage(
            describe_run(stored),
            progress,
            load_iterations(database, run),
            [
                *waiting_reasons(progress.queues),
                *drift_warnings(progress.rounds),
                *rounding_warnings(database, run),
            ],
        )
        table = None
        with suppress(NotFoundError):  # nothing is evaluated (yet)
            table = run_table(database, run)
    if shown_as == "json":
        print_json(page.document() | {"accuracies": table})
        return
    if shown_as != "table":
        print_iterations(page.iterations, f"Run {run}", shown_as)
        return
    for line in (*head_lines(page), *flow_lines(page)):
        console.print(line)
    console.print()
    if table is not None:
        show_run_table(table, "accuracies", shown_as)
        console.print()
    if page.iterations:
        print_iterations(page.iterations, None, shown_as)
    for warning in page.warnings:
        console.print(warning)
    console.print()
    for command in further_lines(run):
        console.print(command)
