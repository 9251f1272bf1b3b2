"""`hsstar prompts`: what a policy is shown."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database

if TYPE_CHECKING:
    from hsstar.recipe.recipe import Recipe


@click.group(epilog="Example:  hsstar prompts show configs/demo.toml --problem '1+2*3'")
def prompts() -> None:
    """Show what a policy is given to continue."""


@prompts.command(epilog="Example:  hsstar prompts show configs/demo.toml --problem '1+2*3'")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--problem", metavar="TEXT", help="The problem; needs no database.")
@click.option("--dataset", metavar="NAME", help="Take its first problem.  [default: the recipe's dataset]")
def show(recipe: Path, problem: str | None, dataset: str | None) -> None:
    """Print the prompt of a problem exactly as the policy of RECIPE sees it.

    How many tokens it has is said on standard error. A beginning-of-text token that the tokenizer adds
    by itself is counted and not printed.
    """
    from hsstar.engines.prompts import count_tokens, prompt_renderer
    from hsstar.recipe.recipe import load_recipe

    if problem is not None and dataset is not None:
        raise click.UsageError("give either --problem or --dataset")
    found = load_recipe(recipe)
    policy = found.policy.model
    if problem is None:
        policy, problem = _from_database(found, dataset)
    prompt = prompt_renderer(found.policy.prompt, policy)(problem)
    tokens = count_tokens(policy, prompt)
    click.echo(prompt, nl=False)
    click.echo(f"{'' if prompt.endswith(chr(10)) else chr(10)}{tokens} tokens", err=True)


def _from_database(recipe: "Recipe", dataset: str | None) -> tuple[str, str]:
    """Where the policy is, and the first problem of the dataset that takes part."""
    from hsstar.store import datasets, models

    with open_database() as database, database.begin() as connection:
        found = datasets.find_dataset(connection, dataset or recipe.problems.dataset)
        named = {model.name: model.location for model in models.list_models(connection)}
        return named.get(recipe.policy.model, recipe.policy.model), datasets.first_problem(connection, found)


@prompts.command("list", epilog="Example:  hsstar prompts list")
def list_() -> None:
    """List the templates that a recipe may name under policy.prompt."""
    from hsstar.cli.views.output import print_table
    from hsstar.domain.prompts import CHAT, TEMPLATES, chat_message

    own = f"the policy's own chat template; its user says {chat_message('{problem}')!r}"
    print_table(
        ("template", "text"), [*((name, repr(text)) for name, text in TEMPLATES.items()), (CHAT, own)]
    )
