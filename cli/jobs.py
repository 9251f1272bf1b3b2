"""`hsstar jobs`: the queue's rows."""

import click

from hsstar.cli.environment import open_database

STATES = ("queued", "running", "done", "failed", "discarded")
_ERROR_CHARACTERS = 100


@click.group(epilog="Example:  hsstar jobs list --state failed")
def jobs() -> None:
    """List and retry jobs."""


@jobs.command("list", epilog="Example:  hsstar jobs list demo --state failed")
@click.argument("run", required=False)
@click.option("--state", type=click.Choice(STATES), help="Only jobs in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
def list_(run: str | None, state: str | None, limit: int) -> None:
    """List the newest jobs, of RUN where given."""
    from hsstar.cli.views.output import duration, print_table
    from hsstar.store import runs
    from hsstar.store.queue import jobs as stored

    with open_database() as database, database.begin() as connection:
        run_id = None if run is None else runs.find_run(connection, run).id
        found = stored.list_jobs(connection, run_id, state, limit)
    rows = []
    for job in found:
        seconds = None
        if job.finished_at and job.started_at:
            seconds = (job.finished_at - job.started_at).total_seconds()
        error = " ".join((job.error or "").split())[:_ERROR_CHARACTERS]
        rows.append(
            (job.id, job.run, job.round, job.kind, job.state, job.slots, job.attempts, job.worker,
             duration(seconds), error)
        )  # fmt: skip
    print_table(
        ("job", "run", "round", "kind", "state", "samples", "attempts", "worker", "took", "error"), rows
    )


@jobs.command(epilog="Example:  hsstar jobs retry demo")
@click.argument("run", required=False)
@click.option("--job", "job_ids", type=int, multiple=True, metavar="ID", help="Only this job; repeatable.")
def retry(run: str | None, job_ids: tuple[int, ...]) -> None:
    """Put failed jobs back into the queue, of RUN where given, with fresh attempts."""
    from hsstar.store import runs
    from hsstar.store.queue import jobs as stored

    with open_database() as database, database.begin() as connection:
        run_id = None if run is None else runs.find_run(connection, run).id
        found = stored.retry(connection, run_id, list(job_ids))
    click.echo(f"{len(found)} jobs are queued again")
