"""`hsstar samples`: responses drawn elsewhere."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.text import say


@click.group(epilog="Example:  hsstar samples import responses.jsonl --run mine")
def samples() -> None:
    """Import responses drawn elsewhere."""


@samples.command("import", epilog="Example:  hsstar samples import responses.jsonl --run mine")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--run", required=True, type=RUN, help="The run that gets a new iteration.")
@click.option("--dataset", metavar="NAME", help="The dataset for the problems.  [default: the recipe's]")
def import_(file: Path, run: str, dataset: str | None) -> None:
    """Add an iteration to a run with the responses in FILE as pre-samples; workers verify and score them.

    A line of FILE holds a problem with its responses: {"problem": …, "answer": …, "responses": [...]},
    or one sample as published with HS-STaR: {"query": …, "resp": …, "ref_ans": …}. The problems become
    the iteration's slice, and the workers draw the pre-samples that are missing. FILE may be a dataset of the
    Hugging Face hub: hub:OWNER/NAME, or hub:OWNER/NAME/FILE.
    """
    from hsstar.commands.samples import import_samples
    from hsstar.data.hub import local_file
    from hsstar.insights.runs import find_run

    with open_database() as database:
        stored = find_run(database, run)
        report = import_samples(database, stored, local_file(file), dataset or stored.recipe.problems.dataset)
    say(
        f"iteration {report.iteration} of {run}: {report.problems} problems, {report.imported} samples"
        + (f", {report.surplus} responses beyond n_p left out" if report.surplus else "")
    )
    say(f"watch it: hsstar status {run}")
