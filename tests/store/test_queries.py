"""Queries of a user: one statement, nothing written, nothing that runs for ever."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from hsstar.domain.errors import BadInputError, DatabaseError
from hsstar.store.database import Database
from hsstar.store.queries import run_query
from tests.store.conftest import MakeDatabase
from tests.store.factory import add_problems


@pytest.fixture(scope="module")
def filled(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """One database for all queries: they cannot change it."""
    with make_database(template) as database:
        with database.begin() as connection:
            add_problems(connection, 3)
        yield database


def test_a_query_gives_its_columns_and_rows(filled: Database) -> None:
    columns, rows = run_query(filled, "SELECT statement, 100 % 7 AS rest FROM problems ORDER BY 1 LIMIT 1", 5)
    assert columns == ["statement", "rest"]
    assert rows == [("train problem 0", 2)]


def test_views_can_be_queried(filled: Database) -> None:
    columns, rows = run_query(filled, "SELECT * FROM sample_facts;", 5)
    assert "process_quality" not in columns
    assert "min_reward" in columns
    assert rows == []


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("DELETE FROM problems", "hsstar sql is read-only; use psql to change data"),
        ("DELETE FROM problems RETURNING id", "read-only"),
        ("WITH gone AS (DELETE FROM problems RETURNING id) SELECT * FROM gone", "read-only"),
        ("SELECT nextval(pg_get_serial_sequence('problems', 'id'))", "read-only"),
        ("CREATE TABLE mine (id int)", "read-only"),
        ("EXPLAIN ANALYZE DELETE FROM problems", "read-only"),
        ("TRUNCATE problems CASCADE", "read-only"),
        ("SELECT * FROM problems FOR UPDATE", "read-only"),
        ("SELECT 1; DELETE FROM problems", "the query is refused: .*multiple commands"),
        ("COMMIT; DELETE FROM problems", "the query is refused: .*multiple commands"),
        ("ROLLBACK; BEGIN; DELETE FROM problems; COMMIT", "the query is refused: .*multiple commands"),
        ("COMMIT", "the statement returns no rows"),
        ("SET TRANSACTION READ WRITE", "refused: .*must be set before any query|returns no rows"),
        ("SELECT set_config('transaction_read_only', 'off', true)", "must be set before any query"),
        ("DO $$ BEGIN COMMIT; DELETE FROM problems; END $$", "refused: .*invalid transaction termination"),
        ("COPY problems TO PROGRAM 'cat'", "refused"),
        ("", "returns no rows"),
        ("SELECT nonsense", "the query is refused: column .nonsense. does not exist"),
    ],
)
def test_nothing_but_one_query_is_let_through(filled: Database, query: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as failure:
        run_query(filled, query, 5)
    assert "\n" not in str(failure.value)
    with filled.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM problems")) == 3
        connection.execute(text("CREATE TEMPORARY TABLE still_writable (id int) ON COMMIT DROP"))


def test_a_query_is_ended_when_its_time_is_over(filled: Database) -> None:
    started = time.monotonic()
    with pytest.raises(BadInputError, match="longer than 1 s; narrow it or give more time: --timeout"):
        run_query(filled, "SELECT pg_sleep(30)", 1)
    assert time.monotonic() - started < 10


def test_the_time_limit_does_not_outlive_its_query(filled: Database) -> None:
    run_query(filled, "SELECT 1", 1)
    with filled.begin() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "0"
        assert connection.scalar(text("SHOW transaction_read_only")) == "off"


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(DatabaseError, match="cannot reach the database"):
        run_query(Database("postgresql:///x?host=/tmp/no-such-folder"), "SELECT 1", 5)
