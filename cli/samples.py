"""`hsstar samples`: responses drawn elsewhere."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.text import say

_MOST_SHOWN = 8


@click.group(epilog="Example:  hsstar samples import responses.jsonl --run mine")
def samples() -> None:
    """Import responses drawn elsewhere."""


@samples.command("import", epilog="Example:  hsstar samples import responses.jsonl --run mine")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", required=True, help="The run that gets a new iteration.")
@click.option("--dataset", metavar="NAME", help="The dataset for the problems.  [default: the recipe's]")
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="FIELD=PATH",
    help="Where rows of another layout have statement, reference, response or responses: response=out.0.text",
)
def import_(file: Path, run: str, dataset: str | None, mapped: tuple[str, ...]) -> None:
    """Add an iteration to a run with the responses in FILE as pre-samples; workers verify and score them.

    A line of FILE holds a problem with its responses, {"problem": …, "answer": …, "responses": [...]}, or one
    sample, {"query": …, "resp": …, "ref_ans": …}, in one of the published layouts (docs/formats.md). The
    problems become the iteration's slice, and the workers draw the pre-samples that are missing. The same
    samples are imported into a run once. FILE may be a dataset of the Hugging Face hub: hub:OWNER/NAME, or
    hub:OWNER/NAME/FILE.
    """
    from hsstar.commands.samples import import_samples
    from hsstar.data.hub import local_file
    from hsstar.data.mapping import ColumnMap
    from hsstar.insights.runs import find_run

    with open_database() as database:
        stored = find_run(database, run)
        columns = ColumnMap.parse(mapped, ("statement",), ("response", "responses"))
        dataset = dataset or stored.recipe.problems.dataset
        report = import_samples(database, stored, local_file(file), dataset, columns)
    say(
        f"iteration {report.iteration} of {run}: {report.problems} problems, {report.imported} samples"
        + (f", {report.surplus} responses beyond n_p left out" if report.surplus else "")
    )
    if report.conflicts:
        say(f"{len(report.conflicts)} problems have several reference answers; the first counts:", err=True)
        for conflict in report.conflicts[:_MOST_SHOWN]:
            say(f"  {conflict}", err=True)
    say(f"watch it: hsstar status {run}")
