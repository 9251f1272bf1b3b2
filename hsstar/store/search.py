"""The index that makes the search in statements fast: trigrams, by an extension of Postgres."""

from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from hsstar.domain.errors import ConflictError

EXTENSION = "pg_trgm"
_INDEX = "ix_problems_statement_trigrams"
_WITHOUT_LIMITS = """
    SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true)
"""


def add_statement_index(connection: Connection) -> bool:
    """Make the index; return False if it is there. Imports of problems wait meanwhile.

    Raise ConflictError if this Postgres has no such extension, or this login may not create it.
    """
    if connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": _INDEX}):
        return False
    available = text("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = :name)")
    if not connection.scalar(available, {"name": EXTENSION}):
        raise ConflictError(
            f"this Postgres has no extension {EXTENSION} (the embedded one has none; others have it with "
            "postgresql-contrib); without it the search in statements works and reads each of them"
        )
    connection.execute(text(_WITHOUT_LIMITS))
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS pg_trgm"))
    except ProgrammingError as error:
        raise ConflictError(
            f"this login may not create the extension {EXTENSION}; "
            f"as a superuser: CREATE EXTENSION {EXTENSION}"
        ) from error
    connection.execute(
        text("CREATE INDEX ix_problems_statement_trigrams ON problems USING gin (statement gin_trgm_ops)")
    )
    return True


def drop_statement_index(connection: Connection) -> bool:
    """Drop the index; return False if there is none. The extension stays."""
    if not connection.scalar(text("SELECT to_regclass(:name) IS NOT NULL"), {"name": _INDEX}):
        return False
    connection.execute(text("DROP INDEX ix_problems_statement_trigrams"))
    return True
