"""Rows of a query as Arrow, by COPY in its binary form: no row passes through Python.

ADBC's driver has a connection of its own. It gets the guards that `hsstar.store.read.sql` sets.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import make_url

from hsstar.domain.errors import BadInputError, DatabaseError, MissingDependencyError
from hsstar.store.database import Database, connection_options
from hsstar.store.read.sql import Checked, check_query, explained

if TYPE_CHECKING:
    import pyarrow

_COPIES = re.compile(r"\s*(?:select|with|table|values|\()", re.IGNORECASE)
"""Statements that COPY takes; the driver reads EXPLAIN and SHOW without it."""

_ERRORS_AMONG_ROWS: dict[str, type[psycopg.Error]] = {
    "statement timeout": psycopg.errors.QueryCanceled,
    "temp_file_limit": psycopg.errors.ConfigurationLimitExceeded,
    "permission denied": psycopg.errors.InsufficientPrivilege,
    "read-only transaction": psycopg.errors.ReadOnlySqlTransaction,
}
"""What Postgres says of a query that fails while its rows are read: Arrow passes no SQLSTATE on."""


def record_batches(
    database: Database, query: str, timeout_seconds: int, *, trusted: bool = False
) -> "pyarrow.RecordBatchReader":
    """Return a reader of the rows of a query, in batches of up to 16 MB; its end closes the connection.

    Raise MissingDependencyError without ADBC or pyarrow, BadInputError for a column that Arrow has no type
    for, and else as `hsstar.store.read.sql.querying` does.
    """
    pyarrow, _ = _modules()
    checked = check_query(database, query, timeout_seconds, trusted=trusted)
    batches = _batches(database, query, timeout_seconds, checked)
    return pyarrow.RecordBatchReader.from_batches(next(batches), batches)


def _batches(database: Database, query: str, timeout_seconds: int, checked: Checked) -> Iterator[Any]:
    """Yield the schema, then the batches."""
    pyarrow, _ = _modules()
    with _reader(database, query, timeout_seconds, checked) as reader:
        schema = pyarrow.schema([(field.name, _type_of(field)) for field in reader.schema])
        yield schema
        for batch in reader:
            columns = [
                _converted(column, field.type) for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield pyarrow.RecordBatch.from_arrays(columns, schema=schema)


@contextmanager
def _reader(database: Database, query: str, timeout_seconds: int, checked: Checked) -> Iterator[Any]:
    """Run a query over a guarded connection of ADBC; its errors become ours."""
    _, adbc = _modules()
    with explained(timeout_seconds):
        try:
            with (
                closing(_connect(database)) as connection,
                closing(connection.cursor()) as cursor,
            ):
                cursor.execute("SET TRANSACTION READ ONLY")
                for setting in checked.settings:
                    cursor.execute("SELECT set_config($1, $2, true)", setting)
                if not _COPIES.match(query):
                    cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
                cursor.execute(f"{query.rstrip().rstrip(';')}\n")  # a comment must not hide COPY's bracket
                yield cursor.fetch_record_batch()
        except adbc.Error as error:
            kind = psycopg.errors.lookup(error.sqlstate) if error.sqlstate else psycopg.OperationalError
            raise kind(_reason(error)) from None
        except OSError as error:
            raise _error_among_rows(_reason(error)) from None


def _connect(database: Database) -> Any:
    _, adbc = _modules()
    url = make_url(database.url).set(drivername="postgresql").update_query_dict(connection_options())
    try:
        return adbc.connect(url.render_as_string(hide_password=False))
    except adbc.Error as error:
        raise DatabaseError(
            f"ADBC cannot reach the database {database.shown_url}: {_reason(error)}"
        ) from None


def _error_among_rows(reason: str) -> psycopg.Error:
    kinds = (kind for phrase, kind in _ERRORS_AMONG_ROWS.items() if phrase in reason)
    return next(kinds, psycopg.OperationalError)(reason)


def _reason(error: Exception) -> str:
    """Return what Postgres says in one line, without the words of the driver around it."""
    said = re.search(r"(?:ERROR|FATAL):\s*(.+?)\s*(?:\n\nQuery was:|$)", str(error), re.DOTALL)
    return " ".join((said[1] if said else str(error)).split())


def _type_of(field: Any) -> Any:
    """Return the type under which a column is given to the user; raise BadInputError without one."""
    pyarrow, _ = _modules()
    of = field.type
    if isinstance(of, pyarrow.OpaqueType) and of.type_name == "numeric":
        return pyarrow.float64()
    if isinstance(of, pyarrow.JsonType):
        return pyarrow.string()
    inner = of.value_type if pyarrow.types.is_list(of) else of
    if isinstance(inner, pyarrow.OpaqueType) or pyarrow.types.is_struct(inner):
        name = inner.type_name if isinstance(inner, pyarrow.OpaqueType) else "record"
        raise BadInputError(
            f"column {field.name!r} has the type {name}{'[]' if inner is not of else ''}, which Arrow lacks; "
            f"cast it in the query: CAST({field.name} AS text)"
        )
    return of


def _converted(column: Any, wanted: Any) -> Any:
    return column if column.type == wanted else column.storage.cast(wanted)


def _modules() -> tuple[Any, Any]:
    try:
        import adbc_driver_postgresql.dbapi
        import pyarrow
    except ImportError as error:
        raise MissingDependencyError(
            f'Arrow needs {error.name}: install it with pip install "hsstar[arrow]"'
        ) from None
    return pyarrow, adbc_driver_postgresql.dbapi
