"""`hsstar reverify`: judge stored samples again."""

import sys
from collections import deque
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted, judging, writing


@click.command(epilog="Example:  hsstar reverify my-run --dry-run --output changes.jsonl")
@click.argument("run", required=False, type=RUN)
@click.option("--evaluation", type=int, metavar="ID", help="Only this evaluation, by its `round_id`.")
@click.option("--dataset", metavar="NAME", help="Samples of the problems of this dataset, in all runs.")
@click.option(
    "--verifier",
    metavar="MODULE:CLASS",
    help="A class with the contract of hsstar.verifier.Verifier.  [default: as recipes say]",
)
@click.option("--dry-run", is_flag=True, help="Say what would change; record no verdict.")
@judging
@writing()
@formatted
def reverify(
    run: str | None,
    evaluation: int | None,
    dataset: str | None,
    verifier: str | None,
    output: Path | None,
    shown_as: Format,
    **options: Any,
) -> None:
    """Judge the stored samples of RUN, an evaluation or a dataset again, by the present verifier.

    The earlier verdicts stay beside the new ones (view verdict_history). New ones come into force where
    sampling or evaluating is under way, in evaluations that are done only with --change-evaluations, in
    finished iterations never. A row per round is printed; --output gets every verdict, label and pair that
    differs, as JSON lines.
    """
    from hsstar.cli.views.output import show_list
    from hsstar.commands import reverify as commands
    from hsstar.data.writing import write_rows
    from hsstar.settings import Settings

    if [run, evaluation, dataset].count(None) != 2:
        raise click.UsageError("give one of RUN, --evaluation and --dataset")
    request = commands.ReverifyRequest(run=run, evaluation=evaluation, dataset=dataset, **options)
    reports: list[commands.RoundReport] = []
    progress = {"progress": _progress} if sys.stderr.isatty() else {}
    with open_database() as database, closing(commands.open_verifiers(verifier)) as opened:
        changes = commands.reverify(
            database, request, opened, Settings.from_environment(), reports, **progress
        )
        if output is None:
            deque(changes, maxlen=0)
        else:
            write_rows(output, map(asdict, changes))
    show_list(commands.RoundReport, reports, shown_as)


def _progress(judged: int) -> None:
    click.echo(f"\r{judged} samples judged ", nl=False, err=True)
