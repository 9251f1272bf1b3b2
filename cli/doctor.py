"""`hsstar doctor`: say what is wrong, one line each, whatever is down."""

import os
import sys
from typing import TYPE_CHECKING

import click

from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.doctor.probes import Probe
    from hsstar.settings import Settings

_SECONDS = 8.5
_IMPORT_SECONDS = 7.5


@click.command(epilog="Example:  hsstar doctor --json")
@formatted
def doctor(shown_as: Format) -> None:
    """Check servers, schema, engines, GPUs, sandbox, disk, clock, workers and jobs, within ten seconds.

    A line each: ok, warn or FAIL, a name, and what was found. The exit code is 1 where something FAILs.
    """
    from hsstar.cli.views.output import show_list
    from hsstar.doctor.machine import check_engines, check_gpus, check_sandbox
    from hsstar.doctor.probes import Probe, examine
    from hsstar.domain.errors import HsstarError
    from hsstar.domain.findings import Finding, Level
    from hsstar.settings import Settings

    probes = [
        Probe("engines", lambda: check_engines(_IMPORT_SECONDS)),
        Probe("gpus", check_gpus),
        Probe("sandbox", check_sandbox),
    ]
    try:
        probes = [*_configured(Settings.from_environment()), *probes]
    except HsstarError as error:
        reason = error

        def refuse() -> "list[Finding]":
            raise reason

        probes = [Probe("settings", refuse), *probes]
    findings = examine(probes, _SECONDS)
    if shown_as == "table":
        for finding in findings:
            say(f"{finding.level:4} {finding.name}: {finding.text}")
    else:
        show_list(Finding, findings, shown_as)
    sys.stdout.flush()
    # a probe that hangs in a library must not delay the end
    os._exit(1 if any(finding.level is Level.FAIL for finding in findings) else 0)


def _configured(settings: "Settings") -> "list[Probe]":
    from hsstar.commands.connection import locate_broker, locate_database
    from hsstar.doctor.machine import check_disk
    from hsstar.doctor.probes import Probe
    from hsstar.doctor.servers import check_broker, check_database
    from hsstar.local.stack import Stack

    folders = {"home": settings.home, "models": settings.models_dir}
    if settings.database_url is None:
        folders["database"] = Stack(settings).postgres.directory
    return [
        Probe("database", lambda: check_database(lambda: locate_database(settings))),
        Probe("broker", lambda: check_broker(lambda: locate_broker(settings), settings.broker_ca)),
        Probe("disk", lambda: check_disk(folders)),
    ]
