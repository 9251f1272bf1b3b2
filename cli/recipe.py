"""`hsstar recipe`: check recipes, and say what one may hold."""

from pathlib import Path

import click

from hsstar.cli.options import FilePath, changing
from hsstar.cli.text import say


@click.group(epilog="Example:  hsstar recipe check mine.toml")
def recipe() -> None:
    """Check recipes and print their schema; needs no database."""


@recipe.command(epilog="Example:  hsstar recipe check mine.toml --set sampling.n=16")
@click.argument("file", type=FilePath())
@changing
def check(file: Path, changes: tuple[str, ...]) -> None:
    """Check keys and values of a recipe: FILE, or builtin:demo.

    Models and datasets are not looked for: hsstar plan and hsstar runs create do so.
    """
    from hsstar.recipe.documents import parse_changes
    from hsstar.recipe.recipe import load_recipe

    checked = load_recipe(file, parse_changes(changes))
    say(f"{file}: a recipe, of the run {checked.name!r}")


@recipe.command(epilog="Example:  hsstar recipe schema > recipe.schema.json")
def schema() -> None:
    """Print the JSON Schema of a recipe, by which editors complete keys and check values."""
    from hsstar.cli.views.output import print_json
    from hsstar.recipe.schema import recipe_schema

    print_json(recipe_schema())
