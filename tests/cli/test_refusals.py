"""What is wrong is said in one line, with a code of its own, and nothing is written: `refusals.json`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import CommandLine
from tests.store.factory import add_problems

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "refusals.json").read_text())
"""`command`, the `message` that it ends with, its exit `code` (1), the content of `file.jsonl`, and a
replacement in the demo's recipe, `recipe.toml`."""


@pytest.mark.parametrize("case", [pytest.param(case, id=" ".join(case["command"])) for case in CASES])
def test_what_is_wrong_is_refused_in_one_line_and_writes_nothing(
    cli: CommandLine, case: dict[str, Any]
) -> None:
    with cli.database.begin() as connection:
        for dataset, count in (("sums", 6), ("demo-train", 8), ("demo-heldout", 8)):
            add_problems(connection, count, dataset)
    if "file" in case:
        (cli.folder / "file.jsonl").write_text(case["file"])
    if "recipe" in case:
        cli.recipe(tuple(case["recipe"]))
    called = cli(*case["command"])
    assert called.code == case.get("code", 1), called
    assert called.out == ""
    lines = called.err.splitlines()
    assert case["message"] in lines[-1]
    assert lines[-1].startswith("hsstar: " if called.code == 1 else "Error: ")
    assert called.code == 2 or len(lines) == 1
    for table, rows in (("datasets", 3), ("runs", 0), ("rounds", 0)):
        assert cli.rows(f"SELECT count(*) FROM {table}") == [(rows,)]
