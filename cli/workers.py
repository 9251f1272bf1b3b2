"""`hsstar workers`: who is at work, and how to send workers home."""

import click

from hsstar.cli.environment import open_database


@click.group(invoke_without_command=True, epilog="Example:  hsstar workers stop --role sample")
@click.option("--all", "everyone", is_flag=True, help="Those that have stopped, too.")
@click.pass_context
def workers(context: click.Context, everyone: bool) -> None:
    """List the workers: host, role, GPU, current job, what they have done, and their last heartbeat."""
    if context.invoked_subcommand is not None:
        return
    from sqlalchemy import text

    from hsstar.cli.views.output import console, print_table

    with open_database() as database, database.begin() as connection:
        rows = connection.execute(
            text("""
                SELECT worker, host, role, gpu,
                    CASE WHEN stop_requested_at IS NOT NULL AND state IN ('idle', 'busy') THEN 'stopping'
                        ELSE state END AS state,
                    job_kind || ' ' || job AS job, since, jobs_done, tokens_done, last_heartbeat,
                    note, noted_at
                FROM worker_activity WHERE :everyone OR state <> 'stopped' ORDER BY worker
            """),
            {"everyone": everyone},
        ).all()
    headings = (
        "worker",
        "host",
        "role",
        "GPU",
        "state",
        "job",
        "since",
        "jobs done",
        "tokens",
        "last heartbeat",
    )
    print_table(headings, [tuple(row)[: len(headings)] for row in rows])
    for row in rows:
        if row.note:
            console.print(f"{row.worker}, {row.noted_at:%Y-%m-%d %H:%M:%S}: {row.note}", markup=False)
    if not rows:
        console.print("no worker is at work; start some: hsstar up, or hsstar worker")


@workers.command(epilog="Example:  hsstar workers stop sample-gpu0@box")
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(("sample", "score", "verify", "train", "all")),
    help="All workers of this role; repeatable.",
)
@click.option("--all", "everyone", is_flag=True, help="All workers.")
def stop(names: tuple[str, ...], roles: tuple[str, ...], everyone: bool) -> None:
    """Let workers finish the jobs in hand, take no others, and end; their supervisor starts no other ones.

    NAME is a worker's name, or the part before the @. They begin to leave within seconds; a training
    is finished first, however long it takes.
    """
    if not (names or roles or everyone):
        raise click.UsageError("say which: names of workers, --role or --all")
    from hsstar.domain.lifecycle import JobKind
    from hsstar.store.queue.workers import request_stop

    every_queue = ",".join(JobKind)
    with open_database() as database, database.begin() as connection:
        queues = [every_queue if role == "all" else role for role in roles]
        found = request_stop(connection, names, queues, everyone=everyone)
    for name in found:
        click.echo(f"{name} is asked to stop")
    if not found:
        click.echo("no worker is at work")
