"""Names alone, for a shell that completes them."""

from sqlalchemy import Connection, text


def run_names(connection: Connection) -> list[str]:
    """Return the names of all runs, the newest first."""
    return list(connection.execute(text("SELECT name FROM runs ORDER BY id DESC")).scalars())


def model_names(connection: Connection) -> list[str]:
    """Return the names of all policies, the newest first."""
    return list(connection.execute(text("SELECT name FROM models ORDER BY id DESC")).scalars())
