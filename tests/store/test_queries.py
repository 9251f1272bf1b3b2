"""Queries of a user: one statement, nothing written, nothing that runs for ever."""

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database
from hsstar.store.read.sql import run_query
from hsstar.store.reader_role import Guard, ensure_reader, guard
from tests.store.conftest import MakeDatabase
from tests.store.factory import add_problems, execute, select

REFUSED = list(map(json.loads, Path(__file__).with_name("refused_queries.jsonl").read_text().splitlines()))
"""Queries, and what is said of them."""


@pytest.fixture(scope="module")
def filled(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """One database for all queries: they cannot change it."""
    with make_database(template) as database:
        with database.begin() as connection:
            add_problems(connection, 3)
        yield database


def test_a_query_gives_its_columns_and_rows(filled: Database) -> None:
    query = "SELECT statement, 100 % 7 AS rest FROM problems ORDER BY 1 LIMIT 1"
    assert run_query(filled, query, 5) == (["statement", "rest"], [("train problem 0", 2)])
    columns, rows = run_query(filled, "SELECT * FROM sample_facts;", 5)
    assert ("min_reward" in columns, rows) == (True, [])


@pytest.mark.parametrize(("query", "message"), REFUSED)
def test_nothing_but_one_query_is_let_through(filled: Database, query: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as failure:
        run_query(filled, query, 5)
    assert "\n" not in str(failure.value)
    with filled.begin() as connection:
        assert select(connection, "SELECT count(*) FROM problems") == [(3,)]
        execute(connection, "CREATE TEMPORARY TABLE still_writable (id int) ON COMMIT DROP")


def test_a_query_leaves_nothing_in_its_session(filled: Database) -> None:
    for query in (
        "SELECT set_config('role', 'none', false)",
        "SELECT set_config('search_path', 'nowhere', false)",
        "SELECT pg_advisory_lock(1, 2), pg_advisory_lock(3)",
    ):
        run_query(filled, query, 5)
    with pytest.raises(BadInputError):
        run_query(filled, "SELECT pg_advisory_lock(4), 1 / (SELECT 0 FROM pg_sleep(0.01))", 5)
    left = """
        SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), current_user,
            (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM problems)
    """
    with filled.begin() as connection:
        assert select(connection, left) == [(0, "hsstar", 0, 3)]


def test_queries_run_under_a_role_that_cannot_log_in(filled: Database) -> None:
    columns = "current_user, session_user, rolcanlogin, rolsuper"
    query = f"SELECT {columns} FROM pg_roles WHERE rolname = current_user"
    assert run_query(filled, query, 5)[1] == [("hsstar_reader", "hsstar", False, False)]


@contextmanager
def rights(database: Database, change: str, undo: str) -> Iterator[None]:
    """Rights that a superuser has changed."""
    url = make_url(database.url).set(username="postgres", drivername="postgresql")
    with psycopg.connect(url.render_as_string(), autocommit=True) as admin:
        admin.execute(change.encode())
        try:
            yield
        finally:
            admin.execute(undo.encode())


@pytest.mark.parametrize(
    "right", ["pg_read_server_files", "pg_write_server_files", "pg_execute_server_program"]
)
def test_a_login_with_rights_over_the_server_is_refused(filled: Database, right: str) -> None:
    message = "does not run as 'hsstar', a superuser or a reader or writer"
    with (
        rights(filled, f"GRANT {right} TO hsstar", f"REVOKE {right} FROM hsstar"),
        pytest.raises(BadInputError, match=message),
    ):
        run_query(filled, "SELECT 1", 5)
    assert run_query(filled, "SELECT 1", 5)[1] == [(1,)]


def test_a_superuser_is_refused(filled: Database) -> None:
    """It could become itself again in a query, and a read-only transaction does not guard files."""
    with (
        closing(Database(make_url(filled.url).set(username="postgres").render_as_string())) as mighty,
        pytest.raises(BadInputError, match="does not run as 'postgres', a superuser"),
    ):
        run_query(mighty, "SELECT 1", 5)


def test_without_the_role_the_transaction_guards_and_the_guard_says_so(filled: Database) -> None:
    become = "GRANT hsstar_reader TO hsstar WITH INHERIT FALSE, SET TRUE"
    with rights(filled, "REVOKE hsstar_reader FROM hsstar", become):
        with filled.begin() as connection:
            assert guard(connection) == Guard("hsstar", reader=False, powerful=False)
            ensure_reader(connection)  # may not
            assert not guard(connection).reader
        assert run_query(filled, "SELECT current_user", 5)[1] == [("hsstar",)]
        with pytest.raises(BadInputError, match="hsstar sql is read-only; use psql to change data"):
            run_query(filled, "DELETE FROM problems RETURNING id", 5)
