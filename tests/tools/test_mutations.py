"""The small changes that `tools.mutants` tries: which there are, and which there are not."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.mutants import AREAS, Area, choose, ordered_tests, tracked
from tools.mutations import embedded_sql_mutations, python_mutations, sql_mutations

ROOT = Path(__file__).parents[2]


KINDS = {"python": python_mutations, "sql": sql_mutations, "sql in python": embedded_sql_mutations}
CASES = json.loads((Path(__file__).parent / "mutations.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['kind']}-{case['source']}")
def test_changes(case: dict[str, Any]) -> None:
    mutations = KINDS[case["kind"]](case["source"])
    assert sorted({mutation.apply(case["source"]) for mutation in mutations}) == case["changed"]


@pytest.mark.slow
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
