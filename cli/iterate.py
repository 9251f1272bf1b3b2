"""`hsstar iterate`: enqueues iterations and follows them."""

import sys
from typing import TYPE_CHECKING

import click

from cli.environment import open_database
from hsstar.domain.errors import ConflictError

if TYPE_CHECKING:
    from hsstar.store.database import Database


@click.command(epilog="Example:  hsstar iterate demo --iterations 3 --watch")
@click.argument("run")
@click.option("--iterations", type=click.IntRange(1), default=1, show_default=True)
@click.option("--watch", is_flag=True, help="Follow the progress; Ctrl-C leaves the run going.")
def iterate(run: str, iterations: int, watch: bool) -> None:
    """Enqueue the next iterations of RUN; the workers do the rest."""
    from hsstar import commands
    from hsstar.store import runs

    with open_database() as database:
        with database.begin() as connection:
            found = runs.find_run(connection, run)
        numbers = commands.start_iterations(database, found, iterations)
        click.echo(f"{run}: iteration {', '.join(map(str, numbers))} enqueued")
        if not watch:
            click.echo(f"follow them: hsstar status {run} --watch")
            return
        follow(database, run, f"{run} goes on; look again: hsstar status {run} --watch")


def follow(database: "Database", run: str, interrupted: str, *, to_stderr: bool = False) -> None:
    """Follows a run to its end; Ctrl-C ends the view, says `interrupted`, and changes nothing else."""
    from cli.progress import Watch

    try:
        if not Watch(database, run, to_stderr=to_stderr).follow():
            raise ConflictError(f"run {run!r} cannot go on until its failed jobs are retried")
    except KeyboardInterrupt:
        click.echo(f"\n{interrupted}", err=True)
        sys.exit(130)
