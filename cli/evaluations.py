"""`hsstar evaluations`: what hsstar evaluate has measured."""

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted


@click.group(epilog="Example:  hsstar evaluations list")
def evaluations() -> None:
    """List what hsstar evaluate has measured."""


@evaluations.command("list", epilog="Example:  hsstar evaluations list --format markdown")
@formatted
def list_(shown_as: Format) -> None:
    """List the evaluations of models, oldest first; hsstar runs delete takes the run of each."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.evaluation import list_evaluations
    from hsstar.store.read.overview import EvaluationEntry

    with open_database() as database:
        show_list(EvaluationEntry, list_evaluations(database), shown_as)
