"""`hsstar status`: what is done, in flight, failed and remaining, and why something waits."""

import click

from hsstar.cli.environment import open_database

_LACKS = {"sample": "sample", "verify": "verdict", "score": "reward", "train": "trained policy"}


@click.command(epilog="Example:  hsstar status demo --watch")
@click.argument("run", required=False)
@click.option("--watch", is_flag=True, help="Follow RUN until it ends; Ctrl-C leaves it going.")
@click.option("--missing", is_flag=True, help="List what RUN lacks, slot by slot, and what holds it.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="Of --missing.",
)
def status(run: str | None, watch: bool, missing: bool, output_format: str) -> None:
    """Show the state of RUN: what is done, in flight, failed, remaining, and why something waits.

    Without RUN: every run in one line, and the workers.
    """
    if run is None:
        if watch or missing:
            raise click.UsageError("--watch and --missing need a RUN")
        _show_all()
    elif missing:
        _show_missing(run, output_format)
    elif watch:
        from hsstar.cli.iterate import follow

        with open_database() as database:
            follow(database, run, f"{run} goes on; look again: hsstar status {run} --watch")
    else:
        _show_run(run)


def _show_run(run: str) -> None:
    from hsstar.cli.views.output import console, print_table
    from hsstar.cli.views.progress import Watch, round_lines, waiting_reasons
    from hsstar.store import runs
    from hsstar.store.read import progress as statistics

    with open_database() as database:
        progress, queues = Watch(database, run).look()
        with database.begin() as connection:
            left_out = statistics.exclusions(connection, runs.find_run(connection, run).id)
    if not progress:
        console.print(f"{run} has no iteration yet; start it: hsstar iterate {run} --watch")
        return
    for line in round_lines(progress):
        console.print(line, markup=False)
    columns = ("round", "done", "in flight", "failed", "remaining", "jobs queued", "jobs running")
    rows = []
    for found in progress:
        if found.done:
            continue
        in_flight = max(0, found.slots_in_flight)
        remaining = max(0, found.budget - found.drawn - in_flight - found.failed_slots)
        rows.append(
            (f"{found.kind} {found.number} {found.evaluation_key}".strip(), found.drawn, in_flight,
             found.failed_slots, remaining, found.queued, found.running)
        )  # fmt: skip
    if rows:
        console.print()
        print_table(columns, rows, title="samples")
    for reason, problems in left_out:
        console.print(f"{problems} problems left out: {reason}", markup=False)
    for reason in waiting_reasons(queues):
        console.print(reason, markup=False)


def _show_missing(run: str, output_format: str) -> None:
    from hsstar.cli.views.output import print_csv, print_json, print_table, ranges
    from hsstar.store import runs
    from hsstar.store.missing import list_missing

    with open_database() as database, database.begin() as connection:
        found = list_missing(connection, runs.find_run(connection, run).id)
    if not found and output_format == "table":
        click.echo(f"{run} lacks nothing that is allotted")
        return
    columns = ("round", "problem", "lacks", "slots", "job", "held by", "error")
    rows = [
        (f"{each.round_kind} {each.number}", each.problem_id, _LACKS[each.kind], ranges(each.slots), each.job,
         " at ".join(filter(None, (each.state, each.worker))) or "the next sweep", each.error)
        for each in found
    ]  # fmt: skip
    {"table": print_table, "csv": print_csv, "json": print_json}[output_format](columns, rows)


def _show_all() -> None:
    from sqlalchemy import text

    from hsstar.cli.views.output import console, print_table
    from hsstar.store import runs
    from hsstar.store.read import progress as statistics

    with open_database() as database, database.begin() as connection:
        summaries = []
        for run in runs.list_runs(connection):
            progress = statistics.round_progress(connection, run.id)
            iterations = [found for found in progress if found.kind == "iteration"]
            open_ = [found for found in iterations if not found.done]
            if open_:
                state = open_[0].state.replace("_", "-")
            elif progress:
                state = "done" if all(found.done for found in progress) else "evaluating"
            else:
                state = "not started"
            summaries.append(
                (
                    run.name,
                    f"{len(iterations) - len(open_)}/{len(iterations)}",
                    state,
                    sum(found.queued for found in progress),
                    sum(found.running for found in progress),
                    sum(found.failed for found in progress),
                )
            )
        activity = connection.execute(
            text(
                "SELECT worker, host, role, state, jobs, job, since, jobs_done, last_heartbeat "
                "FROM worker_activity WHERE state <> 'stopped' ORDER BY worker"
            )
        ).all()
        notes = connection.execute(
            text(
                "SELECT worker, noted_at, note FROM worker_activity "
                "WHERE state <> 'stopped' AND note IS NOT NULL ORDER BY noted_at"
            )
        ).all()
    print_table(("run", "iterations done", "state", "jobs queued", "running", "failed"), summaries)
    console.print()
    print_table(
        ("worker", "host", "role", "state", "jobs", "oldest", "since", "jobs done", "last heartbeat"),
        [tuple(row) for row in activity],
    )
    for row in notes:
        console.print(f"{row.worker}, {row.noted_at:%Y-%m-%d %H:%M:%S}: {row.note}", markup=False)
    if not activity:
        console.print("no worker has reported for duty; start some: hsstar up")
