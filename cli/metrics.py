"""`hsstar metrics`: the figures of all runs for Prometheus."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.store.database import Database

_STATEMENT_SECONDS = 10.0


@click.command(epilog="Example:  hsstar metrics --port 9464")
@click.option("--port", type=click.IntRange(0, 65_535), help="Serve them there until Ctrl-C; 0 is any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --port: the address.")
def metrics(port: int | None, host: str) -> None:
    """Print the figures of the runs in Prometheus' text format, or serve them at /metrics.

    Archived runs are left out, and those older than the newest hundred. Every scrape reads the rows; while
    the database is away it says hsstar_up 0. The figures have no secrets, but whoever reaches the
    address may read them.
    """
    from hsstar.domain.errors import BadInputError, MissingDependencyError

    try:
        from hsstar.monitoring import prometheus
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"metrics need {error.name}: pip install 'hsstar[metrics]'") from None
    if port is None:
        click.echo(prometheus.exposition(_opening), nl=False)
        return
    try:
        server, thread = prometheus.start_server(_opening, host, port)
    except OSError as error:
        raise BadInputError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    say(f"http://{host}:{server.server_port}/metrics")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    thread.join()


@contextmanager
def _opening() -> Iterator["Database"]:
    from hsstar.store.database import Limits

    with open_database() as database:
        database.limits = Limits(statement=_STATEMENT_SECONDS, lock=_STATEMENT_SECONDS)
        yield database
