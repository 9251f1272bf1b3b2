"""Queries of users: one read-only statement with a time limit, under a role that may only read."""

import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, cast

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database
from hsstar.store.reader_role import READER, guard

Answer = tuple[list[str], Iterator[tuple[Any, ...]]]

_ROWS_AT_A_TIME = 1_000
_TEMPORARY_FILES = "4GB"
_LIMIT_FILES = """
    SELECT set_config('temp_file_limit', %(limit)s, true)
    WHERE has_parameter_privilege('temp_file_limit', 'SET')
"""
_BEYOND = re.compile(
    r"""(?<![\w$])(?:
    set_config | pg_(?:terminate|cancel)_backend | pg_logical_emit_message | pg_(?:try_)?advisory_\w+
    | pg_(?:reload_conf|rotate_logfile|switch_wal|notify|export_snapshot|prewarm)
    | lo_(?:creat|create|export|from_bytea|get|import|open|put|truncate|truncate64|unlink) | loread | lowrite
    | (?:query|cursor|table|schema|database)_to_xml\w* | ts_(?:stat|rewrite) | dblink\w*
    | u&(?=")
    )(?![\w$])""",
    re.VERBOSE | re.IGNORECASE,
)
"""Functions that reach beyond the tables, or run a text as another query, and names with escapes.

The role that may only read keeps nobody from these: who has left it may end other sessions, and who runs
texts can hide anything. They count wherever they stand: what is a text or a comment, only Postgres can tell.
"""


@contextmanager
def querying(database: Database, query: str, timeout_seconds: int) -> Iterator[Answer]:
    """Yield column names and rows of one statement; the rows come as they are read.

    Raises:
        BadInputError: the statement is no query, writes, takes too long, calls what reaches beyond the tables
            or is refused by Postgres; or the login has rights that no guard can limit.
        DatabaseError: the server cannot be reached.
    """
    if called := _BEYOND.search(query):
        raise BadInputError(f"hsstar sql does not call {called[0].lower()}; use psql for that")
    with database.begin() as pooled:
        guards = guard(pooled)
        if guards.powerful:
            raise BadInputError(
                f"hsstar sql does not run as {guards.login!r}, a superuser or a reader or writer of the "
                "server's files: a query could use that. Give hsstar a role of its own (docs/operations.md)"
            )
        raw = pooled.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101  # hsstar chooses the driver
        with _guarded(raw, timeout_seconds, reader=guards.reader), _explained(timeout_seconds):
            columns = _columns(raw, query)
            if not columns:
                raise BadInputError(
                    "the statement returns no rows; hsstar sql runs queries only, use psql to change data"
                )
            rows = raw.cursor().stream(query, size=_ROWS_AT_A_TIME)
            with closing(cast("Generator[tuple[Any, ...]]", rows)):  # it holds the connection's lock
                yield columns, rows


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
    """Open a read-only transaction with limits."""
    raw.execute("SET TRANSACTION READ ONLY")
    raw.execute("SELECT set_config('statement_timeout', %s, true)", (f"{timeout_seconds}s",))
    if raw.info.server_version >= 150_000:
        raw.execute(_LIMIT_FILES, {"limit": _TEMPORARY_FILES})
    if reader:
        raw.execute("SELECT set_config('role', %s, true)", (READER,))
    try:
        yield
    finally:
        if not raw.closed:
            raw.rollback()


@contextmanager
def _explained(timeout_seconds: int) -> Iterator[None]:
    """Turn what Postgres says of a query into one line."""
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction:
        raise BadInputError("hsstar sql is read-only; use psql to change data") from None
    except psycopg.errors.QueryCanceled:
        raise BadInputError(
            f"the query took longer than {timeout_seconds} s; narrow it or give more time: --timeout"
        ) from None
    except psycopg.errors.ConfigurationLimitExceeded:
        raise BadInputError(
            f"the query needs more than {_TEMPORARY_FILES} of temporary files; narrow it"
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
