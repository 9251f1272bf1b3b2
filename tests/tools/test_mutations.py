"""The small changes that `tools.mutants` tries: which there are, and which there are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.mutants import AREAS, Area, choose, ordered_tests, tracked
from tools.mutations import embedded_sql_mutations, python_mutations, sql_mutations

ROOT = Path(__file__).parents[2]


CHANGES = json.loads((Path(__file__).parent / "mutations.json").read_text())


@pytest.mark.parametrize("case", CHANGES["python"], ids=lambda case: case["source"])
def test_changes_of_python(case: dict[str, Any]) -> None:
    source = case["source"]
    assert sorted({found.apply(source) for found in python_mutations(source)}) == case["changed"]


@pytest.mark.parametrize("case", CHANGES["sql"], ids=lambda case: case["source"])
def test_changes_of_sql(case: dict[str, Any]) -> None:
    source = case["source"]
    assert sorted({found.apply(source) for found in sql_mutations(source)}) == case["changed"]


def test_changes_of_the_sql_inside_python() -> None:
    source = 'x = text("SELECT a < b")\ny = "c < d"'
    assert {found.apply(source) for found in embedded_sql_mutations(source)} == {
        'x = text("SELECT a <= b")\ny = "c < d"'
    }


@pytest.mark.parametrize("area", AREAS, ids=lambda area: area.name)
def test_a_seed_says_which_changes_are_tried(area: Area) -> None:
    files = tracked(ROOT)
    first, again, other = (choose(area, 10, seed, files) for seed in (1, 1, 2))
    assert first == again != other
    assert len({(mutant.path, mutant.line) for mutant in first}) == 10
    for mutant in first:
        source = (ROOT / mutant.path).read_text()
        changed = mutant.mutation.apply(source)
        assert changed != source
        assert mutant.tests
        if mutant.path.endswith(".py"):
            compile(changed, mutant.path, "exec")


def test_tests_that_name_the_changed_module_come_first() -> None:
    [area] = [area for area in AREAS if area.name == "domain"]
    tests = ordered_tests(area, "hsstar/domain/contamination.py", tracked(ROOT))
    names_it = ["contamination" in (ROOT / test).read_text() for test in tests]
    assert any(names_it) and names_it == sorted(names_it, reverse=True)
