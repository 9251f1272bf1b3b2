"""`hsstar prompts`: what a policy is shown."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import FilePath, Format, formatted
from hsstar.cli.text import say, say_exactly


@click.group(epilog="Example:  hsstar prompts show configs/demo.toml --problem '1+2*3'")
def prompts() -> None:
    """Show what a policy is given to continue."""


@prompts.command(epilog="Example:  hsstar prompts show configs/demo.toml --problem '1+2*3'")
@click.argument("recipe", type=FilePath())
@click.option("--problem", metavar="TEXT", help="The problem; needs no database.")
@click.option("--dataset", metavar="NAME", help="Take its first problem.  [default: the recipe's dataset]")
def show(recipe: Path, problem: str | None, dataset: str | None) -> None:
    """Print the prompt of a problem exactly as the policy of RECIPE sees it, or as a chat server gets it.

    Its number of tokens goes to standard error, without --problem with the lengths of the dataset's first
    1,000 prompts. A beginning-of-text token that the tokenizer adds is counted and not printed.
    """
    from hsstar.commands.prompts import show_first_prompt, show_prompt
    from hsstar.recipe.recipe import load_recipe

    if problem is not None and dataset is not None:
        raise click.UsageError("give either --problem or --dataset")
    loaded = load_recipe(recipe)
    if problem is None:
        with open_database() as database:
            prompt = show_first_prompt(database, loaded.policy, dataset or loaded.problems.dataset)
    else:
        prompt = show_prompt(loaded.policy, loaded.policy.model, problem)
    say_exactly(prompt.text)
    say(f"{'' if prompt.text.endswith(chr(10)) else chr(10)}{prompt.tokens} tokens", err=True)
    if lengths := prompt.lengths:
        prompts_of = f"{lengths.prompts:,} prompt{'' if lengths.prompts == 1 else 's'} of {lengths.dataset}"
        spread = f"{lengths.least} to {lengths.most} tokens, median {lengths.median}"
        say(f"{prompts_of}: {spread}, nine of ten at most {lengths.nine_of_ten}", err=True)


@prompts.command("list", epilog="Example:  hsstar prompts list")
@formatted
def list_(shown_as: Format) -> None:
    """List the templates that a recipe may name under policy.prompt."""
    from hsstar.cli.views.output import show
    from hsstar.domain.prompts import CHAT, TEMPLATES, chat_message

    chat = f"the policy's own chat template; its user says {chat_message('{problem}')!r}"
    texts = TEMPLATES if shown_as == "json" else {name: repr(text) for name, text in TEMPLATES.items()}
    show(("template", "text"), [*texts.items(), (CHAT, chat)], shown_as=shown_as)
