"""`hsstar doctor`: say what is wrong, one line each, whatever is down."""

import os
import sys

import click

from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say


@click.command(epilog="Example:  hsstar doctor --json")
@formatted
def doctor(shown_as: Format) -> None:
    """Check servers, schema, engines, GPUs, sandbox, disk, clock, workers and jobs, within ten seconds.

    A line each: ok, warn or FAIL, a name, and what was found. The exit code is 1 where something FAILs.
    """
    from hsstar.cli.views.output import show_list
    from hsstar.doctor.installation import examine_installation
    from hsstar.domain.findings import Finding, Level

    findings = examine_installation()
    if shown_as == "table":
        for finding in findings:
            say(f"{finding.level:4} {finding.name}: {finding.text}")
    else:
        show_list(Finding, findings, shown_as)
    sys.stdout.flush()
    # a probe that hangs in a library must not delay the end
    os._exit(1 if any(finding.level is Level.FAIL for finding in findings) else 0)
