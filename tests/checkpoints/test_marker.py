"""Whose a checkpoint is: nothing without our mark is replaced or removed."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hsstar.checkpoints.marker import (
    Marker,
    check_free,
    check_place,
    put_in_place,
    read_marker,
    write_marker,
)
from hsstar.domain.errors import ConflictError, RecipeError
from hsstar.recipe.recipe import parse_recipe

OURS = Marker("5f2c", "run", 0, "abcd")
OTHERS = [
    (replace(OURS, database="77aa"), "is of iteration 0 of run 'run' in the database 77aa"),
    (replace(OURS, run="other"), "is of iteration 0 of run 'other' in the database 5f2c"),
    (replace(OURS, iteration=1), "is of iteration 1 of run 'run' in the database 5f2c"),
    (None, "was not made by hsstar"),
]


def made(folder: Path, content: str, marker: Marker | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "weights").write_text(content)
    if marker is not None:
        write_marker(folder, marker)
    return folder


def test_a_checkpoint_in_place_says_whose_it_is(tmp_path: Path) -> None:
    put_in_place(made(tmp_path / "aside", "new"), tmp_path / "M1", OURS)
    assert read_marker(tmp_path / "M1") == OURS
    assert [path.name for path in tmp_path.iterdir()] == ["M1"]


def test_a_later_attempt_replaces_its_own_checkpoint_whatever_its_content(tmp_path: Path) -> None:
    final = made(tmp_path / "M1", "old", replace(OURS, fingerprint="0000"))
    put_in_place(made(tmp_path / "aside", "new"), final, OURS)
    assert (final / "weights").read_text() == "new"
    assert read_marker(final) == OURS
    assert [path.name for path in tmp_path.iterdir()] == ["M1"]


@pytest.mark.parametrize(("marker", "whose"), OTHERS)
def test_what_is_not_ours_stays(tmp_path: Path, marker: Marker | None, whose: str) -> None:
    final = made(tmp_path / "run" / "M1", "precious", marker)
    aside = made(tmp_path / "aside", "new")
    with pytest.raises(ConflictError, match=f"M1 {whose}; it is not replaced"):
        check_place(final, OURS.database, OURS.run, OURS.iteration)
    with pytest.raises(ConflictError, match=f"M1 {whose}; it is not replaced"):
        put_in_place(aside, final, OURS)
    with pytest.raises(ConflictError, match=f"M1 {whose}; choose another name for the run"):
        check_free(tmp_path / "run")
    assert (final / "weights").read_text() == "precious"
    assert (aside / "weights").read_text() == "new"


@pytest.mark.parametrize("kind", ["a file", "a dead link", "a broken mark", "an empty folder"])
def test_a_place_that_holds_no_checkpoint_of_ours_is_taken(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "M1"
    if kind == "a file":
        final.write_text("precious")
    elif kind == "a dead link":
        final.symlink_to(tmp_path / "nowhere")
    else:
        final.mkdir()
    if kind == "a broken mark":
        (final / "hsstar.json").write_text('{"database": ')
    with pytest.raises(ConflictError, match="was not made by hsstar"):
        put_in_place(made(tmp_path / "aside", "new"), final, OURS)
    assert final.is_symlink() or final.exists()


def test_a_free_place_is_free(tmp_path: Path) -> None:
    check_place(tmp_path / "M1", OURS.database, OURS.run, OURS.iteration)
    check_free(tmp_path / "run")
    (tmp_path / "run").mkdir()
    check_free(tmp_path / "run")


HOSTILE = json.loads(Path(__file__).with_name("hostile_names.json").read_text())


@pytest.mark.parametrize("name", HOSTILE)
def test_the_name_of_a_run_is_a_safe_folder(name: str) -> None:
    document = {"name": name, "problems": {"dataset": "d", "per_iteration": 1}, "policy": {"model": "m"}}
    with pytest.raises(RecipeError, match="name"):
        parse_recipe(document | {"reward": {"model": "p"}})


@pytest.mark.parametrize("name", ["a", "A.b-c+d_e", "+1", "_", "7", "é", "漢" * 66, "a" * 100, "M1", "a..b"])
def test_usual_names_of_runs_are_legal(name: str) -> None:
    document = {"name": name, "problems": {"dataset": "d", "per_iteration": 1}, "policy": {"model": "m"}}
    assert parse_recipe(document | {"reward": {"model": "p"}}).name == name
