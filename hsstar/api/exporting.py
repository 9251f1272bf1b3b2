"""Exports to a file or to the hub, by the name of the target."""

from pathlib import Path

from hsstar.commands.export import ExportReport, ExportRequest, export_rows, export_to_hub
from hsstar.data.hub import PREFIX, upload_name
from hsstar.data.writing import ExportFormat, format_of
from hsstar.store.database import Database


def export(
    database: Database,
    request: ExportRequest,
    target: str | Path,
    file_format: ExportFormat | None,
    *,
    public: bool,
    force: bool,
) -> ExportReport:
    """Write rows to a file, which is replaced, or to `hub:OWNER/NAME`, by default as JSON lines."""
    if str(target).startswith(PREFIX):
        repository = upload_name(str(target))
        return export_to_hub(
            database, request, repository, file_format or "jsonl", public=public, replace=force
        )
    file = Path(target)
    return export_rows(database, request, file, format_of(file, file_format))
