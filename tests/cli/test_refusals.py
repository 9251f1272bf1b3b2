"""What is wrong is said in one line, with a code of its own, and nothing is written: `refusals.json`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hsstar.store.database import Database
from tests.cli.conftest import CommandLine
from tests.store.conftest import MakeDatabase
from tests.store.factory import add_problems

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "refusals.json").read_text())
"""`command`, the `message` that it ends with, its exit `code` (1), the `environment`, the content of
`file.jsonl`, and a replacement in the demo's recipe, `recipe.toml`."""


@pytest.fixture(scope="module")
def filled(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """One database for all cases, as none of them may change it."""
    with make_database(template) as database:
        with database.begin() as connection:
            for dataset, count in (("sums", 6), ("demo-train", 8), ("demo-heldout", 8)):
                add_problems(connection, count, dataset)
        yield database


@pytest.mark.parametrize("case", [pytest.param(case, id=" ".join(case["command"])) for case in CASES])
def test_what_is_wrong_is_refused_in_one_line_and_writes_nothing(
    alone: CommandLine, filled: Database, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone.use(filled)
    for variable, value in case.get("environment", {}).items():
        monkeypatch.setenv(variable, value)
    if "file" in case:
        (alone.folder / "file.jsonl").write_text(case["file"])
    if "recipe" in case:
        alone.recipe(tuple(case["recipe"]))
    called = alone(*case["command"])
    assert called.code == case.get("code", 1), called
    assert called.out == ""
    lines = called.err.splitlines()
    assert case["message"] in lines[-1]
    assert lines[-1].startswith("hsstar: " if called.code == 1 else "Error: ")
    assert called.code == 2 or len(lines) == 1
    for table, rows in (("datasets", 3), ("runs", 0), ("rounds", 0), ("models", 0)):
        assert alone.rows(f"SELECT count(*) FROM {table}") == [(rows,)]
