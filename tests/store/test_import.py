"""Problems are imported whole or not at all, and no transaction waits for the verifier."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from hsstar.commands import problems as commands
from hsstar.commands.problems import UnreadableReference, import_problems, usable_problems
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ProblemFormat
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier


def write(path: Path, count: int, *, last: str = "") -> Path:
    rows = [{"problem": f"What is {number}+1?", "answer": str(number + 1)} for number in range(count)]
    rows[1] |= {"answer": "?", "subject": "lone \ud800"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + last)
    return path


@pytest.mark.parametrize("in_memory", [64_000_000, 100])
def test_a_file_is_verified_before_its_transaction_begins(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    check = MathVerifier.check_references
    open_transactions = []

    def watched(self: MathVerifier, references: Sequence[str], *arguments: Any) -> list[bool]:
        with database.begin() as connection:
            others = connection.scalar(
                text("""
                    SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
                """)
            )
        open_transactions.append(others)
        return check(self, references, *arguments)

    monkeypatch.setattr(MathVerifier, "check_references", watched)
    monkeypatch.setattr(commands, "_BATCH", 4)
    monkeypatch.setattr(commands, "_BYTES_IN_MEMORY", in_memory)
    file, told = write(tmp_path / "p.jsonl", 10), list[int]()
    report = import_problems(database, file, ProblemFormat.MATH, "d", told.append)
    assert (report.read, report.imported, report.unreadable) == (10, 10, (UnreadableReference(2, "?"),))
    assert (open_transactions, told) == ([0, 0, 0], [4, 8, 10])
    assert usable_problems(database) == {"d": 9}
    assert import_problems(database, file, ProblemFormat.MATH, "d").duplicates == 10


def test_a_file_with_a_broken_line_leaves_nothing(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_BATCH", 4)
    with pytest.raises(BadInputError, match=r"p\.jsonl:11: expected one JSON object"):
        import_problems(database, write(tmp_path / "p.jsonl", 10, last="{"), ProblemFormat.MATH, "d")
    assert usable_problems(database) == {}
