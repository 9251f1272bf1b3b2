"""`hsstar runs`: recipes under a name."""

import json
from pathlib import Path
from typing import Any

import click

from hsstar.cli.environment import open_database


@click.group(epilog="Example:  hsstar runs create --recipe configs/demo.toml")
def runs() -> None:
    """Create, list and show runs."""


@runs.command(epilog="Example:  hsstar runs create --recipe configs/demo.toml --name first --seed 1")
@click.option("--recipe", "file", required=True, type=click.Path(path_type=Path), help="A TOML file.")
@click.option("--name", help="The run's name; the recipe's where left out.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed.")
def create(file: Path, name: str | None, seed: int | None) -> None:
    """Create a run from a recipe, after checking every model and dataset that it names.

    The recipe is stored whole with the run, which never changes afterwards.
    """
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.runs import create_run, run_overlaps
    from hsstar.recipe.recipe import load_recipe

    given: dict[str, Any] = {"name": name, "seed": seed}
    recipe = load_recipe(file, {key: value for key, value in given.items() if value is not None})
    with open_database() as database:
        run = create_run(database, recipe, recipe.name)
        found = run_overlaps(database, recipe)
    for line in overlap_lines(found, excluded=recipe.problems.overlaps == "exclude"):
        click.echo(line, err=True)
    click.echo(f"run {run.name} created; start it: hsstar iterate {run.name} --watch")


@runs.command("list", epilog="Example:  hsstar runs list")
def list_() -> None:
    """List the runs, oldest first."""
    from hsstar.cli.views.output import print_table
    from hsstar.store import runs as stored

    with open_database() as database, database.begin() as connection:
        found = stored.list_runs(connection)
    print_table(
        ("run", "policy", "dataset", "seed", "created"),
        [
            (run.name, run.recipe.policy.model, run.recipe.problems.dataset, run.recipe.seed, run.created_at)
            for run in found
        ],
    )


@runs.command(epilog="Example:  hsstar runs show demo")
@click.argument("run")
def show(run: str) -> None:
    """Print the recipe of RUN as it is stored, every default written out (JSON)."""
    from hsstar.store import runs as stored

    with open_database() as database, database.begin() as connection:
        found = stored.find_run(connection, run)
    click.echo(json.dumps(found.recipe.document(), indent=2, ensure_ascii=False))
