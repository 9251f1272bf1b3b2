"""`hsstar logs`: what the processes of this machine have written."""

import sys
import time
from contextlib import suppress

import click

from hsstar.cli.names import LOG
from hsstar.cli.text import say

_POLL_SECONDS = 0.2


@click.command(epilog="Example:  hsstar logs sample-1 -f")
@click.argument("worker", required=False, type=LOG)
@click.option("--follow", "-f", is_flag=True, help="Print what is added, until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(0), default=20, show_default=True, help="Of each log.")
def logs(worker: str | None, follow: bool, lines: int) -> None:
    """Print the last lines of the log of WORKER, or of all logs of HSSTAR_HOME.

    WORKER is a worker of this machine, supervisor, postgres or broker.
    """
    from hsstar.local.logs import LogReader, find_logs
    from hsstar.settings import Settings

    logs_by_name = find_logs(Settings.from_environment().home / "logs", worker)
    readers = {name: LogReader(path) for name, path in logs_by_name.items()}
    width = max(map(len, readers)) if len(readers) > 1 else 0

    def show(name: str, line: str) -> None:
        say(f"{name:<{width}} | {line}" if width else line)

    for name, reader in readers.items():
        for line in reader.last_lines(lines):
            show(name, line)
    with suppress(KeyboardInterrupt):
        while follow:
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
            for name, reader in readers.items():
                for line in reader.new_lines():
                    show(name, line)
