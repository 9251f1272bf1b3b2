"""`hsstar workers`: list workers, and let some of them stop."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say
from hsstar.domain.lifecycle import JobKind

if TYPE_CHECKING:
    from hsstar.store.read.overview import WorkerSummary


@click.group(invoke_without_command=True, epilog="Example:  hsstar workers stop --role sample")
@click.option("--all", "everyone", is_flag=True, help="Also those that have stopped.")
@formatted
@click.pass_context
def workers(context: click.Context, everyone: bool, shown_as: Format) -> None:
    """List the workers: host, role, GPU, current job, what they have done, and their last heartbeat."""
    if context.invoked_subcommand is not None:
        return
    from hsstar.insights.workers import list_workers

    with open_database() as database:
        show_workers(list_workers(database, stopped=everyone), shown_as)


def show_workers(workers: "Sequence[WorkerSummary]", shown_as: Format) -> None:
    """Print workers; in a table also what hinders them, or how to start some."""
    from hsstar.cli.views.output import Columns, console, show_list, shown
    from hsstar.store.read.overview import WorkerSummary

    columns: Columns[WorkerSummary] = {
        "worker": "worker", "host": "host", "role": "role", "GPU": "gpu", "state": "state", "jobs": "jobs",
        "oldest": lambda worker: worker.job and f"{worker.job_kind} {worker.job}", "since": "since",
        "jobs done": "jobs_done", "tokens": "tokens_done", "last heartbeat": "last_heartbeat",
    }  # fmt: skip
    show_list(WorkerSummary, workers, shown_as, columns)
    if shown_as != "table":
        return
    for worker in workers:
        if worker.note:
            console.print(f"{worker.worker}, {shown(worker.noted_at)}: {worker.note}")
    if not workers:
        console.print("no worker is registered; start some: hsstar up, or hsstar worker")


@workers.command(epilog="Example:  hsstar workers stop sample-gpu0@box")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice([*map(str, JobKind), "all"]),
    help="All workers of this role; repeatable.",
)
@click.option("--all", "everyone", is_flag=True, help="All workers.")
def stop(names: tuple[str, ...], roles: tuple[str, ...], everyone: bool) -> None:
    """Let workers finish their jobs, take no others, and end; their supervisor starts no others.

    NAME is a worker's name, or the part before the @. They stop within seconds of their last job; a training
    is finished first, however long it takes.
    """
    from hsstar.commands.workers import stop_workers

    if not (names or roles or everyone):
        raise click.UsageError("say which: names of workers, --role or --all")
    with open_database() as database:
        asked = stop_workers(database, names, roles, everyone=everyone)
    for name in asked:
        say(f"{name} is asked to stop")
    if not asked:
        say("no worker is running")
