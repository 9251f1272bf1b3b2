"""A query as Arrow has the guards of `hsstar sql`, keeps null and NaN apart, and leaves no connection."""

import gc
import math
import sys
from typing import Any

import pytest
from sqlalchemy import make_url

from hsstar.domain.errors import BadInputError, DatabaseError, MissingDependencyError
from hsstar.store.database import Database
from hsstar.store.read.arrow import record_batches
from tests.store.factory import select
from tests.store.test_database import REFUSED, filled
from tests.waiting import wait_for

__all__ = ["filled"]  # fixture

SESSIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"


def read(database: Database, query: str, timeout: int = 5) -> Any:
    return record_batches(database, query, timeout).read_all()


def sessions(database: Database) -> int:
    with database.begin() as connection:
        return int(select(connection, SESSIONS)[0][0])


def test_types_come_as_they_are(filled: Database) -> None:
    query = """
        SELECT CAST('nan' AS float8) AS nan, CAST(NULL AS float8) AS none, CAST('nan' AS numeric) AS odd,
            1.25 AS exact, sum(CAST(2 AS bigint)) AS total,
            ARRAY[CAST(1.5 AS float8), NULL, 'nan'] AS rewards, CAST('{"a": 1}' AS jsonb) AS json,
            CAST('2026-01-02 03:04:05.678901+02' AS timestamptz) AS at,
            CAST('00000000-0000-0000-0000-000000000001' AS uuid) AS id, true AS yes,
            CAST('a' AS "char") AS kind
    """
    table = read(filled, query)
    types = [*map(str, table.schema.types)]
    assert types == [
        "double", "double", "double", "double", "double", "list<item: double>", "string",
        "timestamp[us, tz=UTC]", "extension<arrow.uuid>", "bool", "string",
    ]  # fmt: skip
    (row,) = table.to_pylist()
    assert (math.isnan(row["nan"]), row["none"], math.isnan(row["odd"])) == (True, None, True)
    assert (row["exact"], row["total"], row["json"]) == (1.25, 2.0, '{"a": 1}')
    assert row["rewards"][:2] == [1.5, None]
    assert math.isnan(row["rewards"][2])
    assert row["at"].isoformat() == "2026-01-02T01:04:05.678901+00:00"
    assert (row["id"].int, row["yes"], row["kind"]) == (1, True, "a")


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("inet '1.1.1.1'", "inet"),
        ("row(1, 2)", "record"),
        ("ARRAY[1.5]", r"numeric\[\]"),
        ("int4range(1, 2)", ""),
    ],
)
def test_a_type_that_arrow_lacks_is_named(filled: Database, column: str, kind: str) -> None:
    with pytest.raises(
        BadInputError, match=f"column 'x' has the type .*{kind}.*, which Arrow lacks; cast it in"
    ):
        read(filled, f"SELECT {column} AS x")


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 AS x -- a comment hides no bracket", "SELECT 1 AS x;", "VALUES (1)", "(SELECT 1)",
        "WITH a AS (SELECT 1 AS x) TABLE a", "SHOW server_version", "EXPLAIN SELECT 1",
    ],
)  # fmt: skip
def test_whatever_returns_rows_is_read(filled: Database, query: str) -> None:
    assert read(filled, query).num_rows >= 1


def test_it_runs_under_the_role_and_the_limits_of_queries(filled: Database) -> None:
    names = ("transaction_read_only", "statement_timeout", "temp_file_limit", "application_name")
    columns = ", ".join(f"current_setting('{name}') AS {name}" for name in names)
    (row,) = read(filled, f"SELECT CAST(current_user AS text) AS role, {columns}").to_pylist()
    assert [*row.values()] == ["hsstar_reader", "on", "5s", "4GB", "hsstar"]


@pytest.mark.parametrize(("query", "message"), REFUSED)
def test_nothing_but_one_query_is_let_through(filled: Database, query: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as failure:
        read(filled, query)
    assert "\n" not in str(failure.value)
    with filled.begin() as connection:
        assert select(connection, "SELECT count(*) FROM problems") == [(3,)]


def test_an_error_among_the_rows_is_one_line(filled: Database) -> None:
    with pytest.raises(BadInputError, match=r"^the query is refused: division by zero$"):
        read(filled, "SELECT 1 / (50000 - x) FROM generate_series(1, 50000) AS x")
    with pytest.raises(BadInputError, match="the query took longer than 1 s"):
        read(filled, "SELECT 1 AS x WHERE pg_sleep(30) IS NOT NULL", 1)


def test_batches_come_as_they_are_read_and_leave_no_connection(filled: Database) -> None:
    before = sessions(filled)
    many = "generate_series(1, 10000) AS a, generate_series(1, 10000) AS b"
    reader = record_batches(filled, f"SELECT repeat('x', 1000) AS text FROM {many}", 30)
    first = reader.read_next_batch()
    assert 0 < first.nbytes < 40_000_000
    assert sessions(filled) == before + 1
    del reader
    gc.collect()
    wait_for(lambda: sessions(filled) == before, what="the connection is closed")


def test_a_missing_package_is_named_with_its_extra(filled: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbc_driver_postgresql", None)
    monkeypatch.delitem(sys.modules, "adbc_driver_postgresql.dbapi", raising=False)
    with pytest.raises(MissingDependencyError, match=r'Arrow needs .*pip install "hsstar\[arrow\]"$'):
        read(filled, "SELECT 1")


def test_a_server_that_is_away_is_a_line(filled: Database) -> None:
    url = make_url(filled.url).set(database="nowhere").render_as_string()
    database = Database(url)
    with pytest.raises(DatabaseError, match="nowhere"):
        read(database, "SELECT 1")
    database.close()
