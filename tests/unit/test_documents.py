"""Recipes that extend others."""

from pathlib import Path

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.recipe.documents import load_document, merged
from hsstar.recipe.recipe import load_recipe


def write(folder: Path, **files: str) -> Path:
    """Writes NAME.toml for each name; the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder / f"{next(iter(files))}.toml"


def test_tables_are_merged_and_other_values_replaced(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        child='extends = "base.toml"\nlist = [3]\n[a]\nx = 5\n[a.deep]\nk = 1\n[b]\nnew = true',
        base='kept = "yes"\nlist = [1, 2]\n[a]\nx = 1\ny = 2\n[a.deep]\nk = 0\nl = 0',
    )
    assert load_document(path) == {
        "kept": "yes", "list": [3], "a": {"x": 5, "y": 2, "deep": {"k": 1, "l": 0}}, "b": {"new": True},
    }  # fmt: skip


def test_a_base_may_extend_a_further_one_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    write(tmp_path / "below", middle='extends = "root.toml"\ny = 2', root="x = 1\ny = 1\nz = 1")
    assert load_document(write(tmp_path, top='extends = "below/middle.toml"\nz = 3')) == {
        "x": 1, "y": 2, "z": 3,
    }  # fmt: skip


def test_merging_changes_neither_side() -> None:
    base, changes = {"a": {"x": 1}}, {"a": {"y": 2}}
    assert merged(base, changes) == {"a": {"x": 1, "y": 2}}
    assert (base, changes) == ({"a": {"x": 1}}, {"a": {"y": 2}})


def test_the_demo_can_be_extended_and_the_stored_recipe_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path, mine='extends = "builtin:demo"\nname = "mine"\n[sampling]\nn_p = 2')
    recipe = load_recipe(path, {"seed": 7})
    assert (recipe.name, recipe.seed, recipe.sampling.n, recipe.sampling.n_p) == ("mine", 7, 8, 2)
    assert recipe.policy.model == "builtin:demo-policy"
    assert "extends" not in recipe.document()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a": 'extends = "none.toml"'}, r"a\.toml: extends: no file .*none\.toml"),
        ({"a": "extends = 3"}, r"a\.toml: extends: expected the path of a recipe, got 3"),
        ({"a": 'extends = "builtin:none"'}, r"no recipe 'builtin:none'; known: builtin:demo"),
        ({"a": 'extends = "a.toml"'}, r"in a circle: a\.toml → a\.toml"),
        (
            {"a": 'extends = "b.toml"', "b": 'extends = "c.toml"', "c": 'extends = "a.toml"'},
            r"in a circle: a\.toml → b\.toml → c\.toml → a\.toml",
        ),
        ({"a": 'extends = "b.toml"', "b": "x ="}, r"b\.toml: not TOML"),
    ],
)
def test_a_bad_base_is_named_in_one_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message) as error:
        load_document(write(tmp_path, **files))
    assert "\n" not in str(error.value)
