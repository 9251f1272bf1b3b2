"""The same recipe gives the same rows as ever; `make golden REASON="…"` renews them."""

import json
from pathlib import Path

import pytest

from tests.golden import renew
from tests.golden.run import GOLDEN, Rows, golden_rows
from tests.store.conftest import MakeDatabase
from tests.store.driver import TABLES


@pytest.fixture(scope="module")
def rows(make_database: MakeDatabase, template: str, tmp_path_factory: pytest.TempPathFactory) -> Rows:
    with make_database(template) as database:
        return golden_rows(database, tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("table", TABLES)
def test_the_rows_of_a_run_are_what_they_were(rows: Rows, table: str) -> None:
    golden: Rows = json.loads(GOLDEN.read_text())
    if table == "rewards":  # the last bits of a reward are the CPU's
        assert [row[:-1] for row in rows[table]] == [row[:-1] for row in golden[table]]
        assert [row[-1] for row in rows[table]] == pytest.approx([row[-1] for row in golden[table]], abs=2e-4)
    else:
        assert rows[table] == golden[table]


def test_rows_are_renewed_for_a_reason_alone(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden, changelog = tmp_path / "rows.json", tmp_path / "CHANGELOG.md"
    changelog.write_text("# Changelog\n\n### Changed now\n\n- **Old.** Thing.\n\n### Changed earlier\n")
    monkeypatch.setattr(renew, "GOLDEN", golden)
    monkeypatch.setattr(renew, "CHANGELOG", changelog)
    monkeypatch.setenv("REASON", " ")
    with pytest.raises(SystemExit, match="for a reason alone"):
        renew.main()
    for _ in range(2):  # the second time there is nothing to renew
        renew.renew(rows, "Seeds differ.")
        assert json.loads(golden.read_text()) == rows
        assert changelog.read_text() == (
            "# Changelog\n\n### Changed now\n\n- **Golden rows.** Seeds differ.\n- **Old.** Thing.\n"
            "\n### Changed earlier\n"
        )
