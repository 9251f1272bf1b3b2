"""Connections and statements: one pool per process, time limits, retries, errors in one line."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from sqlalchemy import Connection, CursorResult, Engine, TextClause, create_engine, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from hsstar.domain.errors import (
    BadInputError,
    DatabaseError,
    RefusedRowError,
    SchemaError,
    StatementError,
)
from hsstar.domain.urls import without_secrets
from hsstar.store.reader_role import BEGIN_READING

SCHEMA_REVISION = "0001_initial"
"""The migration that this code needs: Alembic's head. Revisions sort by their names."""

Result = TypeVar("Result")

_RUN_LOCK = 0x68737374  # "hsst": the first key of our advisory locks
_CONNECT_SECONDS = 5
_CONNECTIONS = 5  # at most per process; the pool keeps one open
_ATTEMPTS = 5  # at a transaction that Postgres rolls back
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_BEGIN = sql.SQL("""
    BEGIN;
    SET LOCAL statement_timeout = {};
    SET LOCAL lock_timeout = {};
    SET LOCAL idle_in_transaction_session_timeout = {}
""")
_DEAD_LINE = {  # TCP only: a connection whose peer is gone fails after about half a minute
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds; 0 sets no limit."""

    statement: float = 600.0  # one statement
    lock: float = 60.0  # the wait for a lock of another transaction
    idle: float = 600.0  # the pause between two statements of a transaction
    patience: float = 0.0  # a user wants the reason at once

    @classmethod
    def of_worker(cls, lease_seconds: float) -> "Limits":
        """Return a worker's limits: it holds no lock longer than its lease, and waits out a restart."""
        return cls(lock=30.0, idle=max(30.0, lease_seconds), patience=min(30.0, lease_seconds / 2))


class Database:
    """A Postgres database with a small pool for one process; `limits` may be replaced at any time.

    With `read_only` its transactions change nothing, and run under the role that may only read if any.
    """

    def __init__(self, url: str, limits: Limits | None = None, *, read_only: bool = False) -> None:
        self.url = _normalised(url)
        self.limits = limits or Limits()
        self._read_only = read_only
        self.engine: Engine = create_engine(
            self.url,
            pool_size=1,
            max_overflow=_CONNECTIONS - 1,
            # plan for the actual parameters, and keep no state that a connection pooler would lose
            connect_args={"prepare_threshold": None, **connection_options()},
        )
        self._by_hand = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @property
    def shown_url(self) -> str:
        """Return the URL without its secrets."""
        return without_secrets(self.url)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open one transaction: committed at the end, rolled back on an error.

        Raise DatabaseError if the server cannot be reached, refuses the login or has no room.
        """
        try:
            with self._transaction() as connection:
                yield connection
        except (DBAPIError, PoolTimeoutError) as error:
            raise self._explained(error) from error

    def run(self, work: Callable[[Connection], Result], *, single: bool = False) -> Result:
        """Return the result of `work` in one transaction; retry after deadlocks and lost connections.

        `work` may only write rows, and must be safe to repeat: an earlier attempt may have been committed
        although its answer was lost. Writes under a lease are safe. `single` work is one statement that waits
        for no lock: it runs without begin, limits and commit. Raise DatabaseError if all attempts failed.
        """
        attempt = 1
        try:
            while True:
                try:
                    with self._single() if single else self._transaction() as connection:
                        return work(connection)
                except DBAPIError as error:
                    if attempt == _ATTEMPTS or not _is_passing(error):
                        raise
                time.sleep(_pause(attempt))
                attempt += 1
        except (DBAPIError, PoolTimeoutError) as error:
            raise self._explained(error) from error

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with self._opened() as connection:
            try:
                yield connection
            except BaseException:
                if not connection.invalidated:  # else its transaction is gone too
                    with suppress(DBAPIError):
                        connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def _single(self) -> Iterator[Connection]:
        with self._by_hand.connect() as connection:
            yield connection

    def _opened(self) -> Connection:
        """Begin a transaction; retry at once on a stale connection, and with pauses on an absent server."""
        deadline = time.monotonic() + self.limits.patience
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._try_to_open()
            except DBAPIError as error:
                if attempt == 1 and error.connection_invalidated:
                    continue  # the pool has just dropped its stale connections
                if not _is_unreachable(error) or time.monotonic() > deadline:
                    raise
            time.sleep(_pause(attempt))

    def _try_to_open(self) -> Connection:
        """Send BEGIN and the limits as one message.

        The limits hold for the transaction only, because a pooler may then lend the connection to others.
        """
        connection = self._by_hand.connect()
        try:
            connection.exec_driver_sql(_begin(self.limits))
            if self._read_only:
                connection.exec_driver_sql(BEGIN_READING)
        except BaseException:
            connection.close()
            raise
        return connection

    def check_schema(self) -> None:
        """Raise SchemaError if the schema is older or newer than this code; name both revisions."""
        with self.begin() as connection:
            revision = schema_revision(connection)
        if revision is None:
            raise SchemaError(f"{self.shown_url} has no hsstar tables yet; run: hsstar db upgrade")
        if revision < SCHEMA_REVISION:
            raise SchemaError(
                f"the schema is at revision {revision}, this hsstar needs {SCHEMA_REVISION}; "
                "run: hsstar db upgrade"
            )
        if revision > SCHEMA_REVISION:
            raise SchemaError(
                f"the schema is at revision {revision}, newer than this hsstar knows ({SCHEMA_REVISION}); "
                "upgrade hsstar"
            )

    def close(self) -> None:
        """Close every connection of the pool."""
        self.engine.dispose()

    def _explained(self, error: DBAPIError | PoolTimeoutError) -> DatabaseError:
        if isinstance(error, PoolTimeoutError):
            return DatabaseError(f"all {_CONNECTIONS} connections of this process were in use for too long")
        cause = error.orig
        reason = " ".join(str(cause).split())
        match cause:
            case psycopg.errors.LockNotAvailable():
                return DatabaseError(
                    f"another transaction held a lock for more than {self.limits.lock:g} s; try again"
                )
            case psycopg.errors.QueryCanceled():
                return StatementError(f"a statement took more than {self.limits.statement:g} s: {reason}")
            case psycopg.errors.DiskFull():
                return DatabaseError(
                    f"the database's disk is full ({reason}); free space, then repeat: nothing is lost"
                )
            case psycopg.DataError() | psycopg.IntegrityError() | psycopg.errors.ProgramLimitExceeded():
                return RefusedRowError(f"the database refuses a row: {reason}")
            case psycopg.errors.UndefinedTable() | psycopg.errors.UndefinedColumn():
                return SchemaError(f"the schema does not fit this hsstar ({reason}); run: hsstar db upgrade")
            case psycopg.OperationalError() if "password" in reason or "authentication" in reason:
                return DatabaseError(f"{self.shown_url} refuses the login: {reason}")
            case psycopg.OperationalError() if "does not exist" in reason:
                return DatabaseError(f"{self.shown_url}: {reason}; create the database first")
            case psycopg.OperationalError():
                return DatabaseError(f"cannot reach the database {self.shown_url}: {reason}")
        return StatementError(f"the database refused a statement: {reason}")


def _is_passing(error: DBAPIError) -> bool:
    undone = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
    return error.connection_invalidated or isinstance(error.orig, undone)


def _is_unreachable(error: DBAPIError) -> bool:
    """Tell whether the server is absent or full; a refused login is neither."""
    reason = str(error.orig)
    refused = ("password", "authentication", "does not exist", "no pg_hba.conf entry", "certificate")
    return isinstance(error.orig, psycopg.OperationalError) and not any(word in reason for word in refused)


def _pause(attempt: int) -> float:
    """Return the seconds before the next attempt: doubled each time, and random to separate rivals."""
    longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt)
    return random.uniform(longest / 2, longest)  # noqa: S311  # no secret


@cache
def _begin(limits: Limits) -> str:
    milliseconds = (round(seconds * 1000) for seconds in (limits.statement, limits.lock, limits.idle))
    return _BEGIN.format(*map(sql.Literal, milliseconds)).as_string()


def _normalised(url: str) -> str:
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
def read_statement(name: str) -> str:
    """Return the statement of `store/sql/<name>.sql`."""
    return resources.files("hsstar.store").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")


def execute_file(
    connection: Connection, name: str, parameters: Mapping[str, Any], *, batch: int | None = None
) -> CursorResult[*tuple[Any, ...]]:
    """Run `store/sql/<name>.sql` with named parameters; with `batch`, stream that many rows at a time."""
    options = {} if batch is None else {"yield_per": batch}
    return connection.execute(text(read_statement(name)), parameters, execution_options=options)


def connection_options() -> dict[str, str]:
    """Return the parameters of libpq that every connection of hsstar has."""
    options = {"connect_timeout": _CONNECT_SECONDS, "application_name": "hsstar", **_DEAD_LINE}
    return {name: str(value) for name, value in options.items()}


def rows_of(result: CursorResult[*tuple[Any, ...]], kind: Callable[..., Result]) -> list[Result]:
    """Build one `kind` per row; the columns have the names of its fields."""
    return [kind(**row) for row in result.mappings()]


def row_of(result: CursorResult[*tuple[Any, ...]], kind: Callable[..., Result]) -> Result | None:
    """Build a `kind` from the first row; None without rows."""
    row = result.mappings().first()
    return None if row is None else kind(**row)


def exists(connection: Connection, query: TextClause, parameters: Mapping[str, Any]) -> bool:
    """Tell whether a query has a row."""
    return connection.execute(query, parameters).first() is not None


def schema_revision(connection: Connection) -> str | None:
    """Return the revision of the database's schema; None if it has no hsstar schema.

    Raise SchemaError if its revision is a number alone, as before the first release.
    """
    if connection.scalar(text("SELECT to_regclass('alembic_version')")) is None:
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if revision is not None and revision.isdecimal():
        raise SchemaError(
            f"the schema is at revision {revision}, from before the first release, and cannot be migrated; "
            "export what you need with the hsstar that made it, then start with a new database"
        )
    return revision


def refresh_statistics(connection: Connection, tables: str) -> None:
    """Analyse tables after a round got its rows; `tables` is a list as SQL reads it.

    Until autovacuum runs, the planner takes the new round for nearly empty and joins its rows in nested
    loops: seconds instead of milliseconds at 7,500 problems.
    """
    connection.execute(text(f"ANALYZE {tables}"))


def analyse_rounds(connection: Connection) -> None:
    """Analyse a round that got its problems, and the small tables around it.

    Autovacuum never looks at tables of less than fifty rows. Without statistics they count for hundreds of
    rows: a round seems a small part of its samples, and each join to a round many rows instead of one.
    Tables that another transaction analyses are left to it.
    """
    connection.execute(
        text("""
            ANALYZE (SKIP_LOCKED)
                allocation_waves, evaluations, iterations, jobs, models, round_problems, rounds, run_rewards,
                run_sources, runs, sample_counts, source_rounds, step_rounds, training_runs, workers
        """)
    )


def lock_run(connection: Connection, run_id: int) -> None:
    """Lock a run against other transactions that advance it, until the end of this transaction."""
    connection.execute(
        text("SELECT pg_advisory_xact_lock(:space, :run)"), {"space": _RUN_LOCK, "run": run_id}
    )


def try_lock_run(connection: Connection, run_id: int, *, shared: bool = False) -> bool:
    """Lock a run as `lock_run` does, or return False if another transaction holds it.

    Transactions that hold it `shared` keep out only those that do not.
    """
    values = {"space": _RUN_LOCK, "run": run_id}
    if shared:
        return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock_shared(:space, :run)"), values))
    return bool(connection.scalar(text("SELECT pg_try_advisory_xact_lock(:space, :run)"), values))
