"""`hsstar samples`: responses drawn elsewhere, and for how long texts are kept."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import reading
from hsstar.cli.text import say

if TYPE_CHECKING:
    from datetime import datetime

    from hsstar.data.bad_rows import BadRows


@click.group(epilog="Example:  hsstar samples import responses.jsonl --run mine")
def samples() -> None:
    """Import responses drawn elsewhere; delete the texts of old samples."""


@samples.command("import", epilog="Example:  hsstar samples import responses.jsonl --run mine")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@reading
@click.option("--run", required=True, type=RUN, help="The run that gets a new iteration.")
@click.option("--dataset", metavar="NAME", help="The dataset for the problems.  [default: the recipe's]")
@click.option("--allow-unreadable", is_flag=True, help="Import though most references cannot be used.")
def import_(
    files: tuple[Path, ...],
    mapping: tuple[str, ...],
    bad: "BadRows",
    run: str,
    dataset: str | None,
    allow_unreadable: bool,
) -> None:
    """Add an iteration to a run with the responses in FILE as pre-samples; workers verify and score them.

    A line of FILE holds a problem with its responses, {"problem": …, "answer": …, "responses": [...]}, or one
    sample, {"query": …, "resp": …, "ref_ans": …}, in one of the published layouts (docs/formats.md). The
    problems become the iteration's slice, and the workers draw the pre-samples that are missing. The same
    samples are imported into a run once. FILE may be a folder, a pattern, or a dataset of the Hugging Face
    hub: hub:OWNER/NAME, or hub:OWNER/NAME/FILE.
    """
    from hsstar.cli.views.problems import reference_lines
    from hsstar.cli.views.rows import first_of, left_out_lines
    from hsstar.commands.samples import import_samples
    from hsstar.data.mapping import ColumnMap
    from hsstar.data.samples import SampleFiles
    from hsstar.data.sources import files_of
    from hsstar.insights.runs import find_run

    with open_database() as database:
        stored = find_run(database, run)
        columns = ColumnMap.parse(mapping, ("statement",), ("response", "responses"))
        dataset = dataset or stored.recipe.problems.dataset
        source = SampleFiles(files_of(files), columns, bad)
        report = import_samples(database, stored, source, dataset, allow_unreadable=allow_unreadable)
    say(
        f"iteration {report.iteration} of {run}: {report.problems} problems, {report.imported} samples"
        + (f", {report.surplus} responses beyond n_p left out" if report.surplus else "")
    )
    for line in (*left_out_lines(bad), *reference_lines(report.references)):
        say(line, err=True)
    if report.conflicts:
        say(f"{len(report.conflicts)} problems have several reference answers; the first counts:", err=True)
        for line in first_of([f"  {conflict}" for conflict in report.conflicts], len(report.conflicts)):
            say(line, err=True)
    say(f"watch it: hsstar status {run}")


@samples.command(epilog="Example:  hsstar samples prune --before 2026-01-01 --keep pairs --dry-run")
@click.option("--before", type=click.DateTime(), required=True, help="Rounds that were done before it.")
@click.option(
    "--keep",
    type=click.Choice(("pairs", "correct", "nothing")),
    multiple=True,
    default=("pairs",),
    show_default=True,
    help="Texts that stay: those trained on, or of correct samples; repeatable.",
)
@click.option("--run", type=RUN, help="Only the rounds of this run.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(before: "datetime", keep: tuple[str, ...], run: str | None, dry_run: bool, yes: bool) -> None:
    """Delete responses and step rewards of old samples, to save space.

    Verdicts, answers, minimum rewards, token counts, pairs and all figures stay. What has no text any more is
    neither exported nor judged again.
    """
    from hsstar.cli.views.output import Columns, show_list, size
    from hsstar.commands.prune_samples import PrunedRound, prune_samples

    columns: Columns[PrunedRound] = {
        "run": "run", "round": "round", "samples": "samples", "text": lambda lost: size(lost.bytes)
    }  # fmt: skip
    moment = before.astimezone()
    with open_database() as database:
        prunable = prune_samples(database, moment, keep, run, dry_run=True)
        if prunable:
            show_list(PrunedRound, prunable, "table", columns)
        count, text = sum(lost.samples for lost in prunable), size(sum(lost.bytes for lost in prunable))
        if dry_run or not prunable:
            say(f"{count} samples can lose their text: {text}")
            return
        if not yes:
            click.confirm(f"Delete the texts of {count} samples ({text})?", abort=True)
        pruned = prune_samples(database, moment, keep, run, dry_run=False)
    say(f"{sum(lost.samples for lost in pruned)} samples have lost their text")
