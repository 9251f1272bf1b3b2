"""`hsstar runs`: recipes under a name."""

from pathlib import Path
from typing import Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say


@click.group(epilog="Example:  hsstar runs create --recipe configs/demo.toml")
def runs() -> None:
    """Create, list and show runs."""


@runs.command(epilog="Example:  hsstar runs create --recipe configs/demo.toml --name first --seed 1")
@click.option("--recipe", "file", required=True, type=click.Path(path_type=Path), help="A TOML file.")
@click.option("--name", help="The run's name.  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed.")
def create(file: Path, name: str | None, seed: int | None) -> None:
    """Create a run from a recipe, after checking every model and dataset that it names.

    The whole recipe is stored with the run and never changes.
    """
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.models import policy_location
    from hsstar.commands.prompts import check_room
    from hsstar.commands.runs import create_run, run_overlaps
    from hsstar.domain.findings import Level
    from hsstar.recipe.recipe import load_recipe
    from hsstar.settings import Settings

    changes: dict[str, Any] = {"name": name, "seed": seed}
    recipe = load_recipe(file, {key: value for key, value in changes.items() if value is not None})
    with open_database() as database:
        run = create_run(database, recipe, recipe.name, Settings.from_environment().models_dir)
        overlaps = run_overlaps(database, recipe)
        room = check_room(database, recipe, policy_location(database, recipe.policy.model))
    for line in overlap_lines(overlaps, excluded=recipe.problems.overlaps == "exclude"):
        say(line, err=True)
    for finding in room:
        if finding.level is Level.WARN:
            say(f"warning: {finding.text}", err=True)
    say(f"run {run.name} created; start it: hsstar iterate {run.name} --watch")


@runs.command("list", epilog="Example:  hsstar runs list")
@formatted
def list_(shown_as: Format) -> None:
    """List the runs, oldest first."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.runs import RunEntry, list_runs

    with open_database() as database:
        show_list(RunEntry, list_runs(database), shown_as)


@runs.command(epilog="Example:  hsstar runs show demo")
@click.argument("run")
def show(run: str) -> None:
    """Print the stored recipe of RUN with every default (JSON)."""
    from hsstar.cli.views.output import print_json
    from hsstar.insights.runs import find_run

    with open_database() as database:
        print_json(find_run(database, run).recipe.document())
