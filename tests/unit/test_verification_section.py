"""`[verification]` of a recipe: kinds, keys and defaults, other kinds by dataset, functions in files."""

from pathlib import Path
from typing import Any

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.domain.verification import (
    MATH,
    ChoiceSettings,
    ExactSettings,
    GymSettings,
    NumericSettings,
    PythonSettings,
)
from hsstar.recipe.base import parse_section
from hsstar.recipe.documents import load_document
from hsstar.recipe.recipe import load_recipe, parse_recipe
from hsstar.recipe.verification import VerificationSection

FUNCTION = "def check(response, reference, problem):\n    return True\n"
RECIPE = """
name = "own"
problems = { dataset = "train", per_iteration = 1 }
policy = { model = "m" }
reward = { model = "prm" }
[verification]
kind = "python"
function = "checks/mine.py:check"
[verification.datasets.gsm8k]
kind = "numeric"
"""


def section(**keys: Any) -> VerificationSection:
    return parse_section(VerificationSection, keys, "verification")


def test_without_a_word_everything_is_mathematics() -> None:
    assert section().of_dataset("any") == MATH
    assert section().model_dump(mode="json") == {"kind": "math", "datasets": {}}


def test_a_dataset_or_benchmark_may_be_of_another_kind() -> None:
    verification = section(
        kind="exact",
        ignore_case=True,
        datasets={"quiz": {"kind": "choice"}, "gsm8k": {"kind": "numeric", "absolute_tolerance": 0.5}},
    )
    assert verification.of_dataset("train") == ExactSettings(ignore_case=True)
    assert verification.of_dataset(None) == ExactSettings(ignore_case=True)
    assert verification.of_dataset("quiz") == ChoiceSettings()
    numeric = NumericSettings(absolute_tolerance=0.5)
    assert verification.of_dataset("benchmarks/gsm8k") == verification.of_dataset("gsm8k") == numeric
    assert verification.all_settings == [ExactSettings(ignore_case=True), ChoiceSettings(), numeric]


def test_a_run_keeps_the_defaults_of_its_kind_and_no_key_of_another() -> None:
    stored = section(kind="gym", threshold=0.5).model_dump(mode="json")
    assert stored == {
        "kind": "gym",
        "threshold": 0.5,
        "deadline_seconds": 10.0,
        "memory_limit_mb": 2048,
        "datasets": {},
    }
    assert section(**stored).settings == GymSettings(threshold=0.5)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "maths"}, "kind: input should be 'math', 'choice', "),
        ({"ignore_case": True}, "ignore_case needs kind = 'exact' or 'regex', got 'math'"),
        (
            {"kind": "exact", "absolute_tolerance": 1},
            "absolute_tolerance needs kind = 'numeric', got 'exact'",
        ),
        ({"kind": "python"}, "kind = 'python' needs function"),
        (
            {"kind": "python", "function": "own.py:check"},
            "'own.py:check' is of a file, and its text (source) is",
        ),
        (
            {"kind": "python", "function": "own:check", "source": "x"},
            "'own:check' is of no file, and source is",
        ),
        ({"kind": "exact", "extract": "("}, "extract: not a regular expression: missing )"),
        ({"kind": "numeric", "relative_tolerance": -1}, "relative_tolerance: input should be greater than"),
        ({"kind": "exact", "ignorecase": True}, "unknown key 'ignorecase'; legal keys there: "),
        ({"datasets": {"quiz": {"kind": "python"}}}, "datasets.quiz: kind = 'python' needs function"),
    ],
)
def test_a_wrong_section_is_refused_in_a_line(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError) as refused:
        section(**keys)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    (folder / "checks").mkdir(exist_ok=True)
    (folder / "checks" / "mine.py").write_text(FUNCTION)
    (folder / "own.toml").write_text(text)
    return folder / "own.toml"


def test_the_text_of_a_function_is_stored_and_its_file_is_not_read_again(tmp_path: Path) -> None:
    file = write_recipe(tmp_path)
    recipe = load_recipe(file)
    expected = PythonSettings(function="checks/mine.py:check", source=FUNCTION)
    assert recipe.verification.of_dataset("train") == expected
    stored = recipe.document()
    (tmp_path / "checks" / "mine.py").unlink()
    assert parse_recipe(stored).verification.of_dataset("train") == expected


def test_a_recipe_that_changes_another_one_may_change_the_function(tmp_path: Path) -> None:
    write_recipe(tmp_path)
    deeper = tmp_path / "deeper"
    deeper.mkdir()
    (deeper / "other.py").write_text("# another\n")
    for function, source in (("other.py:check", "# another\n"), ("own_package:check", None)):
        (deeper / "changed.toml").write_text(
            f'extends = "../own.toml"\n[verification]\nfunction = "{function}"\n'
        )
        verification = load_recipe(deeper / "changed.toml").verification
        assert verification.settings == PythonSettings(function=function, source=source)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE.replace("mine.py", "none.py"), "verification.function: .*none.py cannot be read"),
        (
            RECIPE.replace('kind = "numeric"', 'kind = "python"\nfunction = "none.py:check"'),
            "verification.datasets.gsm8k.function: .*none.py cannot be read",
        ),
    ],
)
def test_a_file_that_is_not_there_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_document(write_recipe(tmp_path, text))
