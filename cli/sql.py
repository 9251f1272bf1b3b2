"""`hsstar sql`: read-only queries."""

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say


@click.command(
    epilog='Example:  hsstar sql "select run, iteration, boundary, pairs from iteration_statistics"'
)
@click.argument("query")
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Seconds.")
@formatted
def sql(query: str, timeout: int, shown_as: Format) -> None:
    """Run one read-only QUERY over the views: sample_facts, problem_statistics, iteration_statistics,
    remaining_budget, worker_activity (docs/sql.md), or any table.
    """
    from hsstar.cli.views.output import show
    from hsstar.store.read.sql import run_query, unguarded_note

    with open_database() as database:
        columns, rows = run_query(database, query, timeout)
        note = unguarded_note(database)
    if note is not None:
        say(f"hsstar: note: {note}", err=True)
    show(columns, rows, shown_as=shown_as)
