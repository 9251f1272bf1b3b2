"""What a study file may say, and how a wrong one is refused."""

from pathlib import Path

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.study.document import load_study
from tests.unit.tables import tables

STUDY = """
name = "s"
seeds = [3, 1]
iterations = 2
reference = "uniform"
problems = "demo"
[recipe]
extends = "builtin:demo"
evaluation = { problems = 30 }
[strategies.HS-STaR]
[strategies.uniform]
sampling.strategy = "uniform"
difficulty.train = ["inlier", "boundary", "outlier"]
"""


def write(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in STUDY
    path = folder / "study.toml"
    path.write_text(STUDY.replace(old, new) if old else STUDY)
    return path


def test_every_strategy_runs_under_every_seed(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert [(run.name, run.seed, run.recipe.seed) for run in study.runs] == [
        ("s-HS-STaR-3", 3, 3), ("s-uniform-3", 3, 3), ("s-HS-STaR-1", 1, 1), ("s-uniform-1", 1, 1),
    ]  # fmt: skip
    assert [run.strategy for run in study.of_seed(1)] == ["HS-STaR", "uniform"]


def test_strategies_differ_from_the_recipe_in_their_changes_only(tmp_path: Path) -> None:
    plain, uniform = (run.recipe.document() for run in load_study(write(tmp_path)).of_seed(3))
    assert plain["evaluation"]["problems"] == 30
    assert uniform["sampling"].pop("strategy") == "uniform"
    assert uniform["difficulty"].pop("train") == ["inlier", "boundary", "outlier"]
    del plain["sampling"]["strategy"], plain["difficulty"]["train"], plain["name"], uniform["name"]
    assert plain == uniform


@pytest.mark.parametrize(("old", "new", "message"), tables("study_document")["refused"])
def test_a_wrong_study_is_refused_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_study(write(tmp_path, old, new))
    assert "\n" not in str(error.value)


def test_a_study_measures_on_held_out_problems(tmp_path: Path) -> None:
    extended = 'extends = "builtin:demo"\nevaluation = { problems = 30 }'
    path = write(tmp_path, extended, 'extends = "bare.toml"')
    (tmp_path / "bare.toml").write_text(
        'problems = { dataset = "d", per_iteration = 3 }\npolicy.model = "m"\nreward.model = "none"\n'
        'difficulty.signal = "accuracy"\npairs.rule = "random"\n'
    )
    with pytest.raises(RecipeError, match=r"recipe\.evaluation\.dataset is missing"):
        load_study(path)
