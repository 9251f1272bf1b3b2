"""`hsstar runs`: recipes under a name."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, changing, formatted
from hsstar.cli.text import say


@click.group(epilog="Example:  hsstar runs create --recipe configs/demo.toml")
def runs() -> None:
    """Create, list and show runs."""


@runs.command(epilog="Example:  hsstar runs create builtin:demo --name first --set sampling.n=16")
@click.argument("recipe", required=False, type=click.Path(path_type=Path))
@click.option("--recipe", "file", type=click.Path(path_type=Path), help="The same as the argument RECIPE.")
@click.option("--name", help="The run's name.  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed.")
@changing
def create(
    recipe: Path | None, file: Path | None, name: str | None, seed: int | None, changes: tuple[str, ...]
) -> None:
    """Create a run from RECIPE, after checking every model and dataset that it names.

    RECIPE is a TOML file, or builtin:demo. The whole recipe is stored with the run and never changes.
    """
    from hsstar.cli.views.overlaps import overlap_lines
    from hsstar.commands.runs import create_run, run_overlaps
    from hsstar.recipe.documents import parse_changes
    from hsstar.recipe.recipe import load_recipe
    from hsstar.settings import Settings

    chosen = recipe or file
    if chosen is None or (recipe and file):
        raise click.UsageError("give one recipe: a TOML file, or builtin:demo")
    own = {"name": name, "seed": seed}
    own = {key: value for key, value in own.items() if value is not None}
    loaded = load_recipe(chosen, parse_changes(changes) | own)
    with open_database() as database:
        run = create_run(database, loaded, loaded.name, Settings.from_environment().models_dir)
        overlaps = run_overlaps(database, loaded)
    for line in overlap_lines(overlaps, excluded=loaded.problems.overlaps == "exclude"):
        say(line, err=True)
    say(f"run {run.name} created; start it: hsstar iterate {run.name} --watch")


@runs.command(epilog="Example:  hsstar runs fork demo --from 1 --set training.beta=0.2 --name demo-beta")
@click.argument("run", type=RUN)
@click.option(
    "--from",
    "iteration",
    type=click.IntRange(0),
    required=True,
    metavar="ITERATION",
    help="The first iteration that the fork does itself.",
)
@click.option("--name", help="The fork's name.  [default: RUN-from-ITERATION]")
@changing
def fork(run: str, iteration: int, name: str | None, changes: tuple[str, ...]) -> None:
    """Make a run that shares the iterations of RUN before ITERATION and continues otherwise.

    Nothing is copied: samples, pairs, policies and evaluations before it stay those of RUN.
    """
    from hsstar.commands.fork import fork_run
    from hsstar.recipe.documents import parse_changes
    from hsstar.settings import Settings

    models = Settings.from_environment().models_dir
    with open_database() as database:
        made = fork_run(database, run, iteration, parse_changes(changes), name, models)
    say(f"run {made.name} forked from {made.forked_from}; start it: hsstar iterate {made.name} --watch")


@runs.command("list", epilog="Example:  hsstar runs list")
@formatted
def list_(shown_as: Format) -> None:
    """List the runs, oldest first."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.runs import RunEntry, list_runs

    with open_database() as database:
        show_list(RunEntry, list_runs(database), shown_as)


@runs.command(epilog="Example:  hsstar runs show demo")
@click.argument("run", type=RUN)
def show(run: str) -> None:
    """Print the stored recipe of RUN with every default (JSON)."""
    from hsstar.cli.views.output import print_json
    from hsstar.insights.runs import find_run

    with open_database() as database:
        print_json(find_run(database, run).recipe.document())
