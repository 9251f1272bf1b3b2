"""`[policy.prompt]`: a name, a table, a file; what does not fit is refused in a line."""

from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.domain.prompts import ANSWER_INSTRUCTION, Example, PromptFormat
from hsstar.recipe.recipe import Recipe, load_recipe, parse_recipe

ROW = {"problem": "1+1", "solution": "2"}


def recipe_of(prompt: Any) -> Recipe:
    return parse_recipe(
        {
            "name": "own",
            "problems": {"dataset": "train", "per_iteration": 4},
            "policy": {"model": "M0", "prompt": prompt},
            "reward": {"model": "prm"},
        }
    )


def test_a_name_is_stored_as_a_name_and_a_table_as_a_table() -> None:
    for name in ("bare", "chat", "qwen25-step-cot", "{{ problem }}"):
        for prompt in (name, {"template": name}):
            recipe = recipe_of(prompt)
            assert recipe.document()["policy"]["prompt"] == name
            assert recipe.policy.prompt.resolved == PromptFormat(name)
    table = {"template": "chat", "system": "s", "chat_arguments": {"enable_thinking": False}, "prefill": "So"}
    recipe = recipe_of(table)
    assert parse_recipe(recipe.document()) == recipe
    form = PromptFormat(
        "chat", "s", ANSWER_INSTRUCTION, prefill="So", chat_arguments=(("enable_thinking", False),)
    )
    assert recipe.policy.prompt.resolved == form


def test_examples_of_rows_are_all_shown_unless_a_count_says_less() -> None:
    rows = [ROW, {"problem": "2+2", "solution": "4"}]
    shown = recipe_of({"template": "chat", "examples": {"rows": rows}}).policy.prompt.resolved
    assert (shown.examples, shown.shown_examples) == ((Example("1+1", "2"), Example("2+2", "4")), 2)
    fewer = recipe_of({"template": "chat", "examples": {"rows": rows, "count": 1}}).policy.prompt.resolved
    assert [turn["content"] for turn in fewer.conversation("1+1")][1:2] == ["4"]


WRONG = [
    ("chatt", r"policy\.prompt: unknown prompt template; legal values: .*; did you mean 'chat'"),
    ({"system": "s"}, r"policy\.prompt\.template' is missing"),
    ({"template": "bare", "system": "s"}, "template 'bare' has no place for system; take template = 'chat'"),
    ({"template": "bare", "examples": {"rows": [ROW]}}, "has no place for examples"),
    ({"template": "{{ problem }}", "chat_arguments": {"a": 1}}, "chat_arguments needs template = 'chat'"),
    ({"template": "chat", "examples": {}}, "give the dataset of the examples, or rows"),
    ({"template": "chat", "examples": {"rows": [ROW], "count": 2}}, "count = 2 is more than the 1 rows"),
    ({"template": "chat", "sytem": "s"}, "unknown key 'policy.prompt.sytem'.*did you mean 'system'"),
]


@pytest.mark.parametrize(("prompt", "message"), WRONG)
def test_a_wrong_prompt_is_refused(prompt: Any, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(prompt)


def test_a_template_in_a_file_becomes_part_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "asked.j2").write_text("Q: {{ problem }}\nA:")
    (tmp_path / "below" / "base.toml").write_text(
        'name = "own"\n[problems]\ndataset = "train"\nper_iteration = 4\n[reward]\nmodel = "prm"\n'
        '[policy]\nmodel = "M0"\nprompt = "asked.j2"\n'
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('extends = "below/base.toml"\n')
    assert load_recipe(recipe).document()["policy"]["prompt"] == "Q: {{ problem }}\nA:"
    recipe.write_text(
        'extends = "below/base.toml"\n[policy.prompt]\ntemplate = "other.txt"\nprefill = " So"\n'
    )
    with pytest.raises(RecipeError, match=r"policy\.prompt\.template: .*other\.txt cannot be read"):
        load_recipe(recipe)
    (tmp_path / "other.txt").write_text("no problem")
    with pytest.raises(RecipeError, match=r"other\.txt has no \{\{ problem \}\}"):
        load_recipe(recipe)
    (tmp_path / "other.txt").write_text("{{ problem }}" + "x" * 100_000)
    with pytest.raises(RecipeError, match=r"other\.txt has more than 100,000 characters"):
        load_recipe(recipe)
    (tmp_path / "other.txt").write_text("{{ problem }}")
    assert load_recipe(recipe).policy.prompt.resolved == PromptFormat("{{ problem }}", prefill=" So")
