"""Connections: one engine per process, short transactions, errors in one line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib import resources
from typing import Any

import psycopg
from sqlalchemy import Connection, CursorResult, Engine, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from hsstar.domain.errors import BadInputError, DatabaseError, SchemaError

SCHEMA_REVISION = "0006"
"""The migration that this code was written for; a test keeps it equal to Alembic's head."""

_RUN_LOCK = 0x68737374  # "hsst": the first key of our advisory locks
_CONNECT_SECONDS = 5


class Database:
    """A Postgres database by URL, with a small pool that suits one worker process."""

    def __init__(self, url: str) -> None:
        self.url = _normalised(url)
        self.engine: Engine = create_engine(
            self.url,
            pool_size=2,
            max_overflow=16,  # more threads may compute than use the database at once
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": _CONNECT_SECONDS,
                "application_name": "hsstar",
                # plans for the actual parameters, and no state that a connection pooler would lose
                "prepare_threshold": None,
            },
        )

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return make_url(self.url).render_as_string(hide_password=True)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """One transaction: committed at the end, rolled back on an error.

        Raises:
            DatabaseError: the server cannot be reached, refuses us or has no room; one line.
        """
        try:
            with self.engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise self._explained(error) from error

    def check_schema(self) -> None:
        """Refuses a database whose schema is not the one this code knows.

        Raises:
            SchemaError: naming both revisions and the command that mends it.
        """
        with self.begin() as connection:
            known = connection.scalar(text("SELECT to_regclass('alembic_version') IS NOT NULL"))
            found = connection.scalar(text("SELECT version_num FROM alembic_version")) if known else None
        if found is None:
            raise SchemaError(f"{self.shown_url} has no hsstar tables yet; run: hsstar db upgrade")
        if found < SCHEMA_REVISION:
            raise SchemaError(
                f"the schema is at revision {found}, this hsstar needs {SCHEMA_REVISION}; "
                "run: hsstar db upgrade"
            )
        if found > SCHEMA_REVISION:
            raise SchemaError(
                f"the schema is at revision {found}, newer than this hsstar knows ({SCHEMA_REVISION}); "
                "upgrade hsstar"
            )

    def close(self) -> None:
        """Closes every connection of the pool."""
        self.engine.dispose()

    def _explained(self, error: DBAPIError) -> DatabaseError:
        cause = error.orig
        reason = " ".join(str(cause).split())
        match cause:
            case psycopg.errors.DiskFull():
                return DatabaseError(
                    f"the database's disk is full ({reason}); free space, then repeat: nothing is lost"
                )
            case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
                return SchemaError(f"the schema does not fit this hsstar ({reason}); run: hsstar db upgrade")
            case psycopg.OperationalError() if "password" in reason or "authentication" in reason:
                return DatabaseError(f"{self.shown_url} refuses the login: {reason}")
            case psycopg.OperationalError() if "does not exist" in reason:
                return DatabaseError(f"{self.shown_url}: {reason}; create the database first")
            case psycopg.OperationalError():
                return DatabaseError(f"cannot reach the database {self.shown_url}: {reason}")
        return DatabaseError(f"the database refused a statement: {reason}")


def _normalised(url: str) -> str:
    """The URL with the driver that hsstar uses."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadInputError(
            "HSSTAR_DATABASE_URL is not a database URL; expected postgresql://user:password@host:port/name"
        ) from None
    if parsed.get_backend_name() not in ("postgresql", "postgres"):
        raise BadInputError(
            f"hsstar needs Postgres, and the database URL names {parsed.get_backend_name()!r}"
        )
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


@cache
def _statement(name: str) -> str:
    return resources.files("hsstar.store").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def execute_file(
    connection: Connection, name: str, parameters: Mapping[str, Any]
) -> CursorResult[*tuple[Any, ...]]:
    """Runs `store/sql/<name>.sql` with named parameters."""
    return connection.execute(text(_statement(name)), parameters)


def refresh_statistics(connection: Connection, tables: str) -> None:
    """Tells the planner of the rows that a round has just got; `tables` is a list as SQL reads it.

    Until autovacuum comes by, it takes a new round for nearly empty and joins its rows in nested
    loops: seconds instead of milliseconds at 7,500 problems.
    """
    connection.execute(text(f"ANALYZE {tables}"))


def lock_run(connection: Connection, run_id: int) -> None:
    """Waits until no other transaction advances this run; released at the end of the transaction."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:space, :run)"), {"space": _RUN_LOCK, "run": run_id}
    )
