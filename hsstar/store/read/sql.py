"""Queries of users: one read-only statement with a time limit, under a role that may only read."""

import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database
from hsstar.store.reader_role import READER, guard

Answer = tuple[list[str], Iterator[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Checked:
    """A query that Postgres has parsed: its columns, and the settings of a transaction that guard it."""

    columns: list[str]
    settings: tuple[tuple[str, str], ...]  # name and value, in the order in which they are set


_ROWS_AT_A_TIME = 1_000
_TEMPORARY_FILES = "4GB"
_MAY_LIMIT_FILES = "SELECT has_parameter_privilege('temp_file_limit', 'SET')"
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
def querying(
    database: Database, query: str, timeout_seconds: int, *, trusted: bool = False
) -> Iterator[Answer]:
    """Yield column names and rows of one statement; the rows come as they are read.

    A `trusted` statement is composed by hsstar of its own constants and of literals: any login may run it.

    Raises:
        BadInputError: the statement is no query, writes, takes too long, calls what reaches beyond the tables
            or is refused by Postgres; or the login has rights that no guard can limit.
        DatabaseError: the server cannot be reached.
    """
    with _checking(database, query, timeout_seconds, trusted=trusted) as (raw, checked):
        rows = raw.cursor().stream(query, size=_ROWS_AT_A_TIME)
        with closing(cast("Generator[tuple[Any, ...]]", rows)):  # it holds the connection's lock
            yield checked.columns, rows


def check_query(database: Database, query: str, timeout_seconds: int, *, trusted: bool = False) -> Checked:
    """Return the columns of a query and what guards it, without running it. Raise as `querying` does."""
    with _checking(database, query, timeout_seconds, trusted=trusted) as (_, checked):
        return checked


@contextmanager
def _checking(
    database: Database, query: str, timeout_seconds: int, *, trusted: bool
) -> Iterator[tuple["psycopg.Connection[Any]", Checked]]:
    """Yield a connection in a guarded transaction, and the checked query."""
    if not trusted and (called := _BEYOND.search(query)):
        raise BadInputError(f"hsstar sql does not call {called[0].lower()}; use psql for that")
    with database.begin() as pooled:
        guards = guard(pooled)
        if guards.powerful and not trusted:
            raise BadInputError(
                f"hsstar sql does not run as {guards.login!r}, a superuser or a reader or writer of the "
                "server's files: a query could use that. Give hsstar a role of its own (docs/operations.md)"
            )
        raw = pooled.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)  # noqa: S101  # hsstar chooses the driver
        settings = _settings(raw, timeout_seconds, reader=guards.reader)
        with _guarded(raw, settings), explained(timeout_seconds):
            columns = _columns(raw, query)
            if not columns:
                raise BadInputError(
                    "the statement returns no rows; hsstar sql runs queries only, use psql to change data"
                )
            yield raw, Checked(columns, settings)


def unguarded_note(database: Database) -> str | None:
    """Return what to tell the user if no role of the database guards queries; None if one does."""
    with database.begin() as connection:
        if guard(connection).reader:
            return None
    return (
        f"only the read-only transaction guards this query, since the role {READER} is missing; "
        "hsstar doctor says how to make it"
    )


def _settings(
    raw: "psycopg.Connection[Any]", timeout_seconds: int, *, reader: bool
) -> tuple[tuple[str, str], ...]:
    """Return the limits of a transaction, and its role: without that its login keeps its rights."""
    settings = [("statement_timeout", f"{timeout_seconds}s")]
    if raw.info.server_version >= 150_000 and raw.execute(_MAY_LIMIT_FILES).fetchone() == (True,):
        settings.append(("temp_file_limit", _TEMPORARY_FILES))
    return (*settings, ("role", READER)) if reader else tuple(settings)


@contextmanager
def _guarded(raw: "psycopg.Connection[Any]", settings: tuple[tuple[str, str], ...]) -> Iterator[None]:
    """Make a transaction read-only and give it its settings."""
    raw.execute("SET TRANSACTION READ ONLY")
    for setting in settings:
        raw.execute("SELECT set_config(%s, %s, true)", setting)
    try:
        yield
    finally:
        if not raw.closed:
            raw.rollback()


@contextmanager
def explained(timeout_seconds: int) -> Iterator[None]:
    """Turn what Postgres says of a query into one line."""
    try:
        yield
    except psycopg.errors.ReadOnlySqlTransaction:
        raise BadInputError("hsstar sql is read-only; use psql to change data") from None
    except psycopg.errors.QueryCanceled:
        raise BadInputError(
            f"the query took longer than {timeout_seconds} s; narrow it or give more time: "
            "--timeout, in Python timeout_seconds"
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
