"""`hsstar db`: the schema and where the database is."""

import click

from hsstar.cli.environment import open_database
from hsstar.cli.text import say


@click.group(epilog="Example:  hsstar db upgrade")
def db() -> None:
    """Migrate the schema; say where the database is."""


@db.command(epilog="Example:  hsstar db upgrade")
def upgrade() -> None:
    """Migrate the database to this hsstar's schema; safe to run many times, also at once."""
    from hsstar.store import migrate

    with open_database(check_schema=False) as database:
        before = migrate.current(database)
        migrate.upgrade(database)
        after = migrate.current(database)
    say(f"schema at {after}" + (" already" if before == after else f" (was: {before or 'none'})"))


@db.command(epilog="Example:  hsstar db downgrade base --yes")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
def downgrade(revision: str, yes: bool) -> None:
    """Migrate the database back to REVISION; `base` removes every table and all data in them."""
    from hsstar.store import migrate

    with open_database(check_schema=False) as database:
        if not yes:
            click.confirm(f"This can delete data in {database.shown_url}. Continue?", abort=True)
        migrate.downgrade(database, revision)
        say(f"schema at {migrate.current(database) or 'none'}")


@db.command(epilog="Example:  hsstar db current")
def current() -> None:
    """Print the revision of the database and the one that this hsstar needs."""
    from hsstar.store import migrate

    with open_database(check_schema=False) as database:
        say(f"{migrate.current(database) or 'none'} (this hsstar: {migrate.head()})")


@db.command(epilog='Example:  psql "$(hsstar db url)"')
def url() -> None:
    """Print the database URL as psql and other programs take it."""
    from hsstar.commands.connection import connected_settings
    from hsstar.settings import Settings

    database_url = connected_settings(Settings.from_environment()).database_url or ""
    say(database_url.replace("postgresql+psycopg://", "postgresql://", 1))


@db.command("index-text", epilog="Example:  hsstar db index-text")
@click.option("--drop", is_flag=True, help="Remove the index.")
def index_text(drop: bool) -> None:
    """Make the search in statements fast by an index of trigrams; safe to run many times.

    It needs the extension pg_trgm, which the embedded Postgres does not have. Without the index a search
    reads each statement.
    """
    from hsstar.commands.search import index_text

    with open_database() as database:
        changed = index_text(database, drop=drop)
    if drop:
        say("the index is removed" if changed else "there is no index of statements")
    else:
        say("statements are indexed" if changed else "statements are indexed already")
