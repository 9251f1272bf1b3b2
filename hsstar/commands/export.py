"""Export pairs, samples and rewards."""

from pathlib import Path
from typing import IO, Literal

from hsstar.commands.samples import export_pairs
from hsstar.data.files import ExportFormat, write_rows
from hsstar.store import retention, runs
from hsstar.store.database import Database
from hsstar.store.read import exports

Exported = Literal["pairs", "samples", "rewards"]
_ROWS = {"pairs": export_pairs, "samples": exports.export_samples, "rewards": exports.export_rewards}


def export_rows(
    database: Database, run: str, rows: Exported, target: Path | IO[bytes], file_format: ExportFormat
) -> int:
    """Write the pairs, samples or rewards of a run in the layout published with HS-STaR; return how many."""
    with database.begin() as connection:
        return write_rows(target, _ROWS[rows](connection, runs.find_run(connection, run)), file_format)


def count_without_text(database: Database, run: str) -> int:
    """Count the samples of a run that no export holds, because their text was deleted."""
    with database.begin() as connection:
        return retention.count_pruned(connection, runs.find_run(connection, run).id)
