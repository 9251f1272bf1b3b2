"""`hsstar jobs`: the queue's rows."""

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say
from hsstar.domain.lifecycle import JobState

_ERROR_CHARACTERS = 100


@click.group(epilog="Example:  hsstar jobs list --state failed")
def jobs() -> None:
    """List and retry jobs."""


@jobs.command("list", epilog="Example:  hsstar jobs list demo --state failed")
@click.argument("run", required=False, type=RUN)
@click.option("--state", type=click.Choice([*map(str, JobState)]), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@formatted
def list_(run: str | None, state: str | None, limit: int, shown_as: Format) -> None:
    """List the newest jobs, of RUN where given."""
    from hsstar.cli.views.output import Columns, duration, show_list
    from hsstar.insights.runs import list_jobs
    from hsstar.store.read.jobs import JobEntry

    with open_database() as database:
        rows = list_jobs(database, run, state, limit)
    names = ("job", "run", "round", "kind", "state", "samples", "attempts", "worker")
    columns: Columns[JobEntry] = dict(zip(names, names, strict=True)) | {
        "took": lambda entry: duration(entry.seconds),
        "error": lambda entry: " ".join((entry.error or "").split())[:_ERROR_CHARACTERS],
    }
    show_list(JobEntry, rows, shown_as, columns)


@jobs.command(epilog="Example:  hsstar jobs retry demo")
@click.argument("run", required=False, type=RUN)
@click.option("--job", "job_ids", type=int, multiple=True, metavar="ID", help="Only this job; repeatable.")
def retry(run: str | None, job_ids: tuple[int, ...]) -> None:
    """Queue failed jobs again, of RUN where given, with fresh attempts."""
    from hsstar.commands.jobs import retry_jobs

    with open_database() as database:
        count = len(retry_jobs(database, run, job_ids))
    say(f"{count} jobs are queued again")
