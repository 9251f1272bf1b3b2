"""Recipes as arguments, and what can be asked of one without a database."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hsstar.commands.prompts import ShownPrompt, show_prompt
from hsstar.domain.prompts import TEMPLATES
from hsstar.recipe.documents import merged
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe

Given = str | Path | Mapping[str, Any]
"""A TOML file, `builtin:demo`, or the recipe as a dictionary."""


def load(recipe: Given, changes: Mapping[str, Any]) -> Recipe:
    """Read a recipe with tables that replace keys of it; raise RecipeError for what is none."""
    if isinstance(recipe, Mapping):
        return parse_recipe(merged(dict(recipe), dict(changes)))
    return load_recipe(Path(recipe), dict(changes))


def check_recipe(recipe: Given, **changes: Any) -> dict[str, Any]:
    """Check keys and values of a recipe; return it with every default.

    Raise RecipeError, which names the key. Models and datasets are looked for by `Client.plan` and `create`.
    """
    return load(recipe, changes).document()


def prompt(recipe: Given, problem: str, **changes: Any) -> ShownPrompt:
    """Return the prompt of a problem exactly as the policy of a recipe sees it, and its tokens."""
    policy = load(recipe, changes).policy
    return show_prompt(policy, policy.model, problem)


def prompt_templates() -> dict[str, str]:
    """Return the templates that a recipe may name under `policy.prompt`; `chat` is the policy's own."""
    return dict(TEMPLATES)
