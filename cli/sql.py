"""`hsstar sql`: read-only queries."""

from itertools import islice

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted
from hsstar.cli.text import say

_MOST_ROWS = 10_000
"""For people to read."""


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
    from hsstar.store.read.sql import querying, unguarded_note

    with open_database() as database:
        if note := unguarded_note(database):
            say(f"hsstar: note: {note}", err=True)
        with querying(database, query, timeout) as (columns, rows):
            if shown_as in ("csv", "json"):
                show(columns, rows, shown_as=shown_as)
                return
            shown = list(islice(rows, _MOST_ROWS))
            more = next(rows, None) is not None
    show(columns, shown, shown_as=shown_as)
    if more:
        say(f"hsstar: note: these are the first {_MOST_ROWS:,} rows; all: --format csv", err=True)
