"""`hsstar doctor`: what is wrong, one line each, whatever is down."""

import json
import os
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hsstar.doctor.findings import Check, Finding
    from hsstar.settings import Settings

_SECONDS = 8.5
_IMPORT_SECONDS = 7.5


@click.command(epilog="Example:  hsstar doctor --json")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of level, name and text.")
def doctor(as_json: bool) -> None:
    """Check database, schema, broker, engines, GPUs, disk, clock, workers and jobs, within ten seconds.

    A line each: ok, warn or FAIL, a name, and what was found. The exit code is 1 where something FAILs.
    """
    from hsstar.doctor.findings import Check, Level, examine
    from hsstar.doctor.machine import check_engines, check_gpus
    from hsstar.domain.errors import HsstarError
    from hsstar.settings import Settings

    checks = [Check("engines", lambda: check_engines(_IMPORT_SECONDS)), Check("gpus", check_gpus)]
    try:
        checks = [*_configured(Settings.from_environment()), *checks]
    except HsstarError as error:
        reason = error

        def refuse() -> "list[Finding]":
            raise reason

        checks = [Check("settings", refuse), *checks]
    found = examine(checks, _SECONDS)
    if as_json:
        lines = [{"level": each.level, "name": each.name, "text": each.text} for each in found]
        click.echo(json.dumps(lines, ensure_ascii=False, indent=2))
    else:
        for each in found:
            click.echo(f"{each.level:4} {each.name}: {each.text}")
    sys.stdout.flush()
    # a check that hangs in a library must not hold up the end
    os._exit(1 if any(each.level is Level.FAIL for each in found) else 0)


def _configured(settings: "Settings") -> "list[Check]":
    """The checks of what the settings name."""
    from hsstar.cli.environment import locate_broker, locate_database
    from hsstar.doctor.findings import Check
    from hsstar.doctor.machine import check_disk
    from hsstar.doctor.servers import check_broker, check_database
    from hsstar.local.stack import Stack

    folders = {"home": settings.home, "models": settings.models_dir}
    if settings.database_url is None:
        folders["database"] = Stack(settings).postgres.directory
    return [
        Check("database", lambda: check_database(lambda: locate_database(settings))),
        Check("broker", lambda: check_broker(lambda: locate_broker(settings), settings.broker_ca)),
        Check("disk", lambda: check_disk(folders)),
    ]
