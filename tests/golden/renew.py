"""Renews the golden rows: `make golden REASON="…"`; the reason becomes a line of CHANGELOG.md."""

import os
import sys
import tempfile
import textwrap
from pathlib import Path

from hsstar.store import migrate
from hsstar.store.database import Database
from tests.golden.run import GOLDEN, Rows, as_json, golden_rows
from tests.store.conftest import temporary_server

CHANGELOG = Path(__file__).parents[2] / "CHANGELOG.md"
_HEADING = "\n### Changed"


def renew(rows: Rows, reason: str) -> None:
    """Write rows that differ, and the reason into the changelog."""
    text = as_json(rows)
    if GOLDEN.exists() and GOLDEN.read_text() == text:
        print("The golden rows are as they were.")
        return
    GOLDEN.write_text(text)
    before, heading, after = CHANGELOG.read_text().partition(_HEADING)
    title, _, entries = after.partition("\n\n")
    entry = textwrap.fill(f"- **Golden rows.** {reason}", 110, subsequent_indent="  ")
    CHANGELOG.write_text(f"{before}{heading}{title}\n\n{entry}\n{entries}")


def main() -> None:
    reason = os.environ.get("REASON", "").strip()
    if not reason:
        sys.exit('Golden rows change for a reason alone: make golden REASON="why they differ"')
    with temporary_server() as url, tempfile.TemporaryDirectory() as folder:
        database = Database(url)
        migrate.upgrade(database)
        renew(golden_rows(database, Path(folder)), reason)
        database.close()


if __name__ == "__main__":
    main()
