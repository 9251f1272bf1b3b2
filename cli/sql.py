"""`hsstar sql`: read-only queries."""

import click

from hsstar.cli.environment import open_database


@click.command(
    epilog='Example:  hsstar sql "select run, iteration, boundary, pairs from iteration_statistics"'
)
@click.argument("query")
@click.option(
    "--format", "layout", type=click.Choice(("table", "csv", "json")), default="table", show_default=True
)
@click.option("--timeout", type=click.IntRange(1), default=60, show_default=True, help="Seconds.")
def sql(query: str, layout: str, timeout: int) -> None:
    """Run one read-only QUERY over the views: sample_facts, problem_statistics, iteration_statistics,
    remaining_budget, worker_activity (docs/sql.md), or any table.
    """
    from hsstar.cli.views.output import print_csv, print_json, print_table
    from hsstar.store.read.sql import run_query
    from hsstar.store.reader_role import READER, guard

    with open_database() as database:
        columns, rows = run_query(database, query, timeout)
        with database.begin() as connection:
            guarded = guard(connection).reader
    if not guarded:
        click.echo(
            f"hsstar: note: only the read-only transaction guards this query, since the role {READER} is "
            "missing; hsstar doctor says how to make it",
            err=True,
        )
    {"table": print_table, "csv": print_csv, "json": print_json}[layout](columns, rows)
