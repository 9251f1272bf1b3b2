"""Queries that a user wrote: one statement, read-only, with a time limit."""

from typing import Any

import psycopg

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database


def run_query(
    database: Database, query: str, timeout_seconds: int
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one statement, run in a read-only transaction.

    Raises:
        BadInputError: it is no query, it tries to write, it takes too long, or Postgres refuses it.
        DatabaseError: the server cannot be reached.
    """
    with database.begin() as pooled:
        raw = pooled.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101  # the driver is ours to choose
        try:
            raw.execute("SET TRANSACTION READ ONLY")
            raw.execute("SELECT set_config('statement_timeout', %s, true)", (f"{timeout_seconds}s",))
            # A prepared statement is exactly one statement: nothing can end the transaction before it.
            raw.prepare_threshold = 0
            cursor = raw.execute(query, prepare=True)
            if cursor.description is None:
                raise BadInputError("the statement returns no rows; hsstar sql runs queries only")
            return [column.name for column in cursor.description], cursor.fetchall()
        except psycopg.errors.ReadOnlySqlTransaction:
            raise BadInputError("hsstar sql is read-only; use psql to change data") from None
        except psycopg.errors.QueryCanceled:
            raise BadInputError(
                f"the query took longer than {timeout_seconds} s; narrow it or give more time: --timeout"
            ) from None
        except psycopg.Error as error:
            raise BadInputError(f"the query is refused: {' '.join(str(error).split())}") from None
        finally:
            raw.rollback()
            raw.prepare_threshold = None  # as `Database` has it
