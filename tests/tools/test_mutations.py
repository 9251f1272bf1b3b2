"""The small changes that `tools.mutants` tries: which there are, and which there are not."""

from pathlib import Path

import pytest

from tools.mutants import AREAS, Area, choose, ordered_tests, tracked
from tools.mutations import embedded_sql_mutations, python_mutations, sql_mutations

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("x = a < b <= c", {"x = a <= b <= c", "x = a < b < c"}),
        ("x = é and not b", {"x = é or not b", "x = é and b"}),
        ("x = a is not None", {"x = a is None"}),
        ("x = a // b + 1", {"x = a * b + 1", "x = a // b - 1", "x = a // b + 2"}),
        ("x += 1", {"x -= 1", "x += 2"}),
        ("x = True", {"x = False"}),
        ("x = min(a)", {"x = max(a)"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = f(a, k=b, check=True)", {"x = f(a, check=True)"}),
        ("x = f(k=b)", {"x = f()"}),
        ("f(a)", {"pass"}),
        ("x = a if b else c", {"x = a if not (b) else c"}),
        ("def f():\n    return a", {"def f():\n    return None"}),
        ("if a:\n    x = b", {"if not (a):\n    x = b"}),
        ("raise ValueError(f'{a + 1}', 2)", set()),
        ("assert a < b", set()),
        ("log.info('%d', a + 1)", set()),
        ("LIMIT_SECONDS = 60.0\ntext = f'{a + 1}'", set()),
        ("'''A docstring with 1 < 2.'''", set()),
        ("def f(a: A[1] = 1, *, b: B[2]): ...", {"def f(a: A[1] = 2, *, b: B[2]): ..."}),
        ("@dataclass(frozen=True)\nclass A: ...", set()),
    ],
)  # fmt: skip
def test_changes_of_python(source: str, changed: set[str]) -> None:
    assert {found.apply(source) for found in python_mutations(source)} == changed


@pytest.mark.parametrize(
    ("source", "changed"),
    [
        ("a <= b", {"a < b"}),
        ("a = b AND c", {"a <> b AND c", "a = b OR c"}),
        ("a IS NULL", {"a IS NOT NULL"}),
        ("ORDER BY a DESC", {"ORDER BY a ASC"}),
        ("ORDER BY a, b", {"ORDER BY a DESC, b"}),
        ("min(a) + 1", {"max(a) + 1", "min(a) - 1", "min(a) + 2"}),
        ("state = 'done'", {"state <> 'done'", "state = 'another'"}),
        ("LEFT JOIN t", {"JOIN t"}),
        ("count(*) -- a < 1", set()),
        ("CAST(:a1 AS int[])", set()),
    ],
)
def test_changes_of_sql(source: str, changed: set[str]) -> None:
    assert {found.apply(source) for found in sql_mutations(source)} == changed


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
