"""`hsstar iterate`: enqueues iterations and follows them."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.store.database import Database


@click.command(epilog="Example:  hsstar iterate demo --iterations 3 --watch")
@click.argument("run", type=RUN)
@click.option("--iterations", type=click.IntRange(1), default=1, show_default=True)
@click.option(
    "--keep-going",
    is_flag=True,
    help="Continue after an iteration that trains nothing, with the same policy.",
)
@click.option("--watch", is_flag=True, help="Follow the progress; Ctrl-C ends the view only.")
@click.option("--samples", is_flag=True, help="With --watch on a terminal: also the newest sample.")
@click.option(
    "--accept-missing",
    is_flag=True,
    help="Enqueue nothing; let RUN continue without what its failed jobs could not do.",
)
def iterate(
    run: str, iterations: int, keep_going: bool, watch: bool, samples: bool, accept_missing: bool
) -> None:
    """Enqueue the next iterations of RUN; the workers do the rest.

    RUN is held after an iteration that trains nothing, and where its recipe's gate says so, until
    hsstar runs resume. With --watch the exit code is then 3, as it is for a RUN that is held.

    Failed jobs hold an iteration up until hsstar jobs retry queues them again, or --accept-missing discards
    them: their problems are then left out, and a failed training leaves the policy as it was.
    """
    from hsstar.commands import runs as commands
    from hsstar.insights.runs import find_run

    with open_database() as database:
        stored = find_run(database, run)
        if accept_missing:
            count = commands.accept_missing(database, stored)
            say(f"{run}: {count} failed jobs discarded; what is missing: hsstar status {run} --missing")
        else:
            numbers = commands.start_iterations(database, stored, iterations, keep_going=keep_going)
            say(f"{run}: iteration {', '.join(map(str, numbers))} enqueued")
        if not watch:
            say(f"follow them: hsstar status {run} --watch")
            return
        follow_run(database, run, samples=samples)


def follow(
    database: "Database",
    run: str,
    interrupted: str,
    *,
    to_stderr: bool = False,
    kind: str | None = None,
    samples: bool = False,
    then: Sequence[str] = (),
) -> None:
    """Show the progress of a run, or of its rounds of a kind, to its end; then say what to do next.

    With `samples` the newest one is shown too, on a terminal. Ctrl-C prints `interrupted` and ends the view
    only.
    """
    from hsstar.cli.views.progress import Watch
    from hsstar.insights.progress import refuse_incomplete

    try:
        progress = Watch(database, run, kind, to_stderr=to_stderr, with_sample=samples).follow()
        refuse_incomplete(run, progress)
        for line in then:
            say(line)
    except KeyboardInterrupt:
        say(f"\n{interrupted}", err=True)
        sys.exit(130)


def follow_run(database: "Database", run: str, *, samples: bool = False) -> None:
    """Show the progress of a run that trains to its end, and what to do next."""
    follow(
        database,
        run,
        f"{run} continues; look again: hsstar status {run} --watch",
        samples=samples,
        then=[f"{run} is done; look at it: hsstar show {run}; continue: hsstar iterate {run} --watch"],
    )
