"""Programs and judges in a recipe: keys, defaults, and a rubric in a file."""

from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.domain.verification import DEFAULT_RUBRIC, CodeSettings, JudgeSettings
from hsstar.recipe.base import parse_section
from hsstar.recipe.recipe import load_recipe, parse_recipe
from hsstar.recipe.verification import VerificationSection

SERVER: dict[str, Any] = {"base_url": "http://localhost:1/v1", "model": "m"}
RECIPE = """
name = "judged"
problems = { dataset = "train", per_iteration = 1 }
policy = { model = "m" }
reward = { model = "prm" }
[verification]
kind = "judge"
base_url = "http://localhost:1/v1"
model = "m"
rubric = "rubrics/mine.md"
[verification.datasets.open]
kind = "judge"
base_url = "http://localhost:1/v1"
model = "m"
rubric = "It has to be kind."
[verification.datasets.programs]
kind = "code"
"""


def settings(**keys: Any) -> Any:
    return parse_section(VerificationSection, keys, "verification").settings


def test_the_defaults_of_programs_and_judges_are_kept_by_the_run() -> None:
    assert settings(kind="code") == CodeSettings(6.0, 512)
    assert settings(kind="code", deadline_seconds=2, memory_limit_mb=256) == CodeSettings(2.0, 256)
    judge = parse_section(VerificationSection, {"kind": "judge", **SERVER}, "verification")
    assert judge.settings == JudgeSettings(**SERVER)
    assert judge.model_dump(mode="json")["rubric"] == DEFAULT_RUBRIC


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "judge", "model": "m"}, "kind = 'judge' needs base_url"),
        ({"kind": "judge", "base_url": "u"}, "kind = 'judge' needs model"),
        ({"kind": "code", "rubric": "x"}, "rubric needs kind = 'judge', got 'code'"),
        ({"kind": "judge", **SERVER, "rubric": ""}, "rubric"),
        ({"kind": "judge", **SERVER, "concurrency": 0}, "concurrency"),
        ({"kind": "judge", **SERVER, "temperature": -1}, "temperature"),
        ({"kind": "code", "deadline_seconds": 0}, "deadline_seconds"),
        ({"kind": "code", "memory_limit_mb": 255}, "memory_limit_mb"),
    ],
)
def test_what_contradicts_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        settings(**keys)


def test_a_rubric_in_a_file_is_stored_whole(tmp_path: Path) -> None:
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "rubrics" / "mine.md").write_text("Be strict.\n")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    recipe = load_recipe(tmp_path / "recipe.toml")
    assert recipe.verification.rubric == "Be strict.\n"
    assert recipe.verification.datasets["open"].rubric == "It has to be kind."
    assert parse_recipe(recipe.model_dump(mode="json"), "stored") == recipe


def test_a_rubric_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    with pytest.raises(RecipeError, match=r"verification.rubric: .*mine.md cannot be read"):
        load_recipe(tmp_path / "recipe.toml")
    (tmp_path / "rubrics").mkdir()
    (tmp_path / "rubrics" / "mine.md").write_text("x" * 200_001)
    with pytest.raises(RecipeError, match=r"mine.md has more than 200,000 characters"):
        load_recipe(tmp_path / "recipe.toml")
