"""`hsstar rescore`: score stored samples by another reward model."""

import sys
from collections import deque
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted, writing


@click.command(epilog="Example:  hsstar rescore my-run --reward ./another-prm --output changes.jsonl")
@click.argument("run", required=False, type=RUN)
@click.option("--evaluation", type=int, metavar="ID", help="Only this evaluation, by its `round_id`.")
@click.option(
    "--reward",
    required=True,
    metavar="NAME|MODEL",
    help="A reward of the run, whose weights or source have changed, or another reward model.",
)
@click.option("--in-place-of", metavar="NAME", help="The reward that the model stands in for, of several.")
@click.option("--dry-run", is_flag=True, help="Say what would change; record no reward.")
@writing()
@formatted
def rescore(output: Path | None, shown_as: Format, **options: Any) -> None:
    """Score the stored samples of RUN, or of an evaluation, by another reward model, in this process.

    The earlier rewards stay beside the new ones (view sample_rewards), and decide: labels and pairs of RUN do
    not change. A row per iteration is printed; --output gets every label and pair that would differ, as JSON
    lines. A fork of RUN with the other model trains by it. An evaluation may be scored by the rewards of its
    run too: no job scores it.
    """
    from hsstar.cli.views.output import show_list
    from hsstar.commands import rescore as commands
    from hsstar.data.writing import write_rows

    if (options["run"] is None) is (options["evaluation"] is None):
        raise click.UsageError("give RUN or --evaluation")
    request = commands.RescoreRequest(**options)
    reports: list[commands.RescoreReport] = []
    progress = {"progress": _progress} if sys.stderr.isatty() else {}
    with open_database() as database:
        changes = commands.rescore(database, request, reports, **progress)
        if output is None:
            deque(changes, maxlen=0)
        else:
            write_rows(output, map(asdict, changes))
    show_list(commands.RescoreReport, reports, shown_as)


def _progress(scored: int) -> None:
    click.echo(f"\r{scored} samples scored ", nl=False, err=True)
