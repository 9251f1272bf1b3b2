"""`hsstar doctor`: what is wrong, one line each, whatever is down."""

import os
import sys
from typing import TYPE_CHECKING

import click

from hsstar.cli.options import Format, formatted

if TYPE_CHECKING:
    from hsstar.doctor.findings import Check, Finding
    from hsstar.settings import Settings

_SECONDS = 8.5
_IMPORT_SECONDS = 7.5


@click.command(epilog="Example:  hsstar doctor --json")
@formatted
def doctor(shown_as: Format) -> None:
    """Check database, schema, broker, engines, GPUs, disk, clock, workers and jobs, within ten seconds.

    A line each: ok, warn or FAIL, a name, and what was found. The exit code is 1 where something FAILs.
    """
    from hsstar.cli.views.output import show_list
    from hsstar.doctor.findings import Check, Finding, Level, examine
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
    if shown_as == "table":
        for each in found:
            click.echo(f"{each.level:4} {each.name}: {each.text}")
    else:
        show_list(Finding, found, shown_as)
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
