"""Queries of users: one read-only statement with a time limit, under a role that may only read."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database
from hsstar.store.reader_role import READER, guard

Answer = tuple[list[str], list[tuple[Any, ...]]]


def run_query(database: Database, query: str, timeout_seconds: int) -> Answer:
    """Return column names and rows of one statement.

    Raises:
        BadInputError: the statement is no query, writes, takes too long or is refused by Postgres; or the
            login has rights that no guard can limit.
        DatabaseError: the server cannot be reached.
    """
    with database.begin() as pooled:
        guards = guard(pooled)
        if guards.powerful:
            raise BadInputError(
                f"hsstar sql does not run as {guards.login!r}, a superuser or a reader or writer of the "
                "server's files: a query could use that. Give hsstar a role of its own (docs/operations.md)"
            )
        raw = pooled.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101  # hsstar chooses the driver
        with _guarded(raw, timeout_seconds, reader=guards.reader):
            return _answer(raw, query, timeout_seconds)


def unguarded_note(database: Database) -> str | None:
    """Return what to tell the user if no role of the database guards queries; None if one does."""
    with database.begin() as connection:
        if guard(connection).reader:
            return None
    return (
        f"only the read-only transaction guards this query, since the role {READER} is missing; "
        "hsstar doctor says how to make it"
    )


@contextmanager
def _guarded(raw: "psycopg.Connection[Any]", timeout_seconds: int, *, reader: bool) -> Iterator[None]:
    """Open a read-only transaction that leaves nothing behind, not even locks of the session."""
    raw.execute("SET TRANSACTION READ ONLY")
    raw.execute("SELECT set_config('statement_timeout', %s, true)", (f"{timeout_seconds}s",))
    if reader:
        raw.execute("SELECT set_config('role', %s, true)", (READER,))
    raw.execute("SAVEPOINT before_query")
    try:
        yield
    finally:
        if raw.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            raw.execute("ROLLBACK TO SAVEPOINT before_query")
            raw.execute("SELECT pg_advisory_unlock_all()")
        if not raw.closed:
            raw.rollback()


def _answer(raw: "psycopg.Connection[Any]", query: str, timeout_seconds: int) -> Answer:
    try:
        columns = _columns(raw, query)
        if not columns:
            raise BadInputError(
                "the statement returns no rows; hsstar sql runs queries only, use psql to change data"
            )
        with raw.pipeline():  # uses the extended protocol, as `_columns` does
            cursor = raw.execute(query)
        return columns, cursor.fetchall()
    except psycopg.errors.ReadOnlySqlTransaction:
        raise BadInputError("hsstar sql is read-only; use psql to change data") from None
    except psycopg.errors.QueryCanceled:
        raise BadInputError(
            f"the query took longer than {timeout_seconds} s; narrow it or give more time: --timeout"
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise BadInputError(f"hsstar sql may only read hsstar's tables: {_line(error)}") from None
    except psycopg.Error as error:
        raise BadInputError(f"the query is refused: {_line(error)}") from None


def _columns(raw: "psycopg.Connection[Any]", query: str) -> list[str]:
    """Return the columns of a statement without running it.

    The extended protocol takes exactly one statement, so no COMMIT can precede it. The prepared statement has
    no name, so nothing stays on a connection that a pooler lends to others.
    """
    prepared = raw.pgconn.prepare(b"", query.encode())
    if prepared.status == ExecStatus.COMMAND_OK:
        described = raw.pgconn.describe_prepared(b"")
        return [(described.fname(place) or b"").decode() for place in range(described.nfields)]
    code = prepared.error_field(DiagnosticField.SQLSTATE)
    kind = psycopg.errors.lookup(code.decode()) if code else psycopg.OperationalError
    raise kind(prepared.get_error_message())


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split())
