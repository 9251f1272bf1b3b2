"""Transactions, which have limits and survive what passes; and queries of users, which may only read."""

import itertools
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from hsstar.domain.errors import BadInputError, DatabaseError
from hsstar.store import database as database_module
from hsstar.store.database import Database, Limits, execute_file
from hsstar.store.read.sql import querying, unguarded_note
from hsstar.store.reader_role import Guard, ensure_reader, guard
from tests.store.conftest import MakeDatabase
from tests.store.factory import add_problems, execute, run_query, select
from tests.store.threads import at_once
from tests.waiting import wait_for

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
END_OTHERS = f"SELECT pg_terminate_backend(pid) {OTHERS}"
"""What a restart of the server does."""

REFUSED = list(map(json.loads, Path(__file__).with_name("refused_queries.jsonl").read_text().splitlines()))
"""Queries of users, and what is said of them."""


@pytest.fixture
def rows(database: Database) -> list[int]:
    """The ids of two problems."""
    with database.begin() as connection:
        return add_problems(connection, 2)


def touch(connection: Connection, problem_id: int) -> None:
    execute(connection, "UPDATE problems SET statement = statement || '!' WHERE id = :id", id=problem_id)


def number(database: Database, query: str) -> int:
    with database.begin() as connection:
        return int(select(connection, query)[0][0])


def exclamations(database: Database) -> int:
    return number(database, "SELECT sum(length(statement) - length(rtrim(statement, '!'))) FROM problems")


class Crossing:
    """Two transactions that touch two rows, each in its own order; the first attempts meet in a deadlock."""

    def __init__(self, rows: list[int]) -> None:
        self._met = threading.Barrier(2)
        self.attempts = 0
        self.both = [partial(self._touch, rows), partial(self._touch, rows[::-1])]

    def _touch(self, rows: list[int], connection: Connection) -> None:
        self.attempts += 1
        first_attempts = self.attempts <= 2
        touch(connection, rows[0])
        if first_attempts:
            self._met.wait(30)
        touch(connection, rows[1])


def test_deadlocked_transactions_run_again(database: Database, rows: list[int]) -> None:
    crossing = Crossing(rows)
    assert at_once(*(partial(database.run, work) for work in crossing.both)) == []
    assert (crossing.attempts, exclamations(database)) == (3, 4)


def test_without_a_second_run_a_deadlock_is_an_error(database: Database, rows: list[int]) -> None:
    def once(work: Callable[[Connection], None]) -> None:
        with database.begin() as connection:
            work(connection)

    (failure,) = at_once(*(partial(once, work) for work in Crossing(rows).both))
    assert isinstance(failure, DatabaseError)
    assert "deadlock detected" in str(failure)


def meeting(trouble: str, times: int = 9) -> tuple[list[int], Callable[[Connection], None]]:
    """A transaction whose first attempts end in trouble, and its attempts."""
    attempts: list[int] = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        if len(attempts) <= times:
            execute(connection, f"DO $$ BEGIN {trouble}; END $$")

    return attempts, work


def test_trouble_that_may_pass_is_tried_again_and_not_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_FIRST_PAUSE", 0.001)
    attempts, work = meeting("RAISE SQLSTATE '40001'", times=1)
    database.run(work)
    assert len(attempts) == 2
    attempts, work = meeting("RAISE SQLSTATE '40P01'")
    with pytest.raises(DatabaseError):
        database.run(work)
    assert len(attempts) == 5


def test_the_pauses_double_up_to_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: low + high)
    pauses = [database_module._pause(attempt) for attempt in range(1, 9)]
    assert pauses == [1.5 * longest for longest in (0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)]


def test_what_is_no_passing_trouble_runs_once(database: Database) -> None:
    attempts, work = meeting("PERFORM 1 / 0")
    with pytest.raises(DatabaseError, match="division by zero"):
        database.run(work)

    def refuse(connection: Connection) -> None:
        attempts.append(1)
        raise BadInputError("no")

    with pytest.raises(BadInputError):
        database.run(refuse)
    assert len(attempts) == 2


def as_superuser(database: Database, statement: str) -> None:
    url = make_url(database.url).set(username="postgres", drivername="postgresql")
    with psycopg.connect(url.render_as_string(), autocommit=True) as admin:
        admin.execute(statement.encode())


def test_a_connection_that_is_lost_in_the_middle_is_replaced(database: Database, rows: list[int]) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        touch(connection, rows[0])
        if len(attempts) == 1:
            as_superuser(database, END_OTHERS)
        touch(connection, rows[1])

    database.run(work)
    assert (len(attempts), exclamations(database)) == (2, 2)


def test_a_connection_that_has_died_in_the_pool_is_replaced_at_once(database: Database) -> None:
    assert number(database, "SELECT 1") == 1
    as_superuser(database, END_OTHERS)
    assert number(database, "SELECT 2") == 2


def test_a_statement_a_lock_and_a_pause_have_their_limits(database: Database, rows: list[int]) -> None:
    hasty = Database(database.url, Limits(statement=0.3, lock=0.2, idle=0.1))
    with pytest.raises(DatabaseError, match=r"a statement took more than 0\.3 s"):
        number(hasty, "SELECT 1 FROM pg_sleep(20)")
    with database.begin() as holder:
        touch(holder, rows[0])
        refusal = pytest.raises(DatabaseError, match=r"held a lock for more than 0\.2 s")
        with refusal, hasty.begin() as connection:
            touch(connection, rows[0])
    with pytest.raises(DatabaseError, match="idle-in-transaction"), hasty.begin() as connection:
        touch(connection, rows[0])
        wait_for(lambda: number(database, f"SELECT count(*) {OTHERS}") == 0)
        touch(connection, rows[0])
    with database.begin() as connection:
        touch(connection, rows[0])  # nobody holds it any more
    hasty.close()


def test_a_process_keeps_one_connection_and_never_has_more_than_five(database: Database) -> None:
    begun = threading.Barrier(5)

    def work() -> None:
        with database.begin():
            begun.wait(30)

    assert at_once(*[work] * 5) == []
    with closing(Database(database.url)) as other:
        wait_for(lambda: number(other, f"SELECT count(*) {OTHERS}") == 1)


def test_a_server_that_is_away_is_waited_for_as_long_as_the_limits_say() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"postgresql://me@127.0.0.1:{taken.getsockname()[1]}/x"
    assert Limits.of_worker(8) == Limits(lock=30, idle=30, patience=4)
    assert Limits.of_worker(300) == Limits(lock=30, idle=300, patience=30)
    for limits, low, high in ((Limits(), 0.0, 30.0), (Limits(patience=0.5), 0.5, 60.0)):
        begun = time.monotonic()
        with pytest.raises(DatabaseError, match="cannot reach the database"), Database(url, limits).begin():
            pass
        assert low <= time.monotonic() - begun < high


def test_what_no_waiting_changes_is_said_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a worker would wait for a server that is away."""
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits"))
    url = make_url(database.url)
    for changed, reason in (
        (url.set(database="none"), "does not exist; create the database first"),
        (url.set(username="nobody"), "refuses the login"),
    ):
        given = changed.render_as_string(hide_password=False)
        with pytest.raises(DatabaseError, match=reason), Database(given, Limits(patience=30)).begin():
            pass
    for reason in ("password", "authentication", "no pg_hba.conf entry", "certificate"):
        refused = DBAPIError("", {}, psycopg.OperationalError(f"FATAL: the {reason} …"))
        assert not database_module._is_unreachable(refused)
    assert database_module._is_unreachable(DBAPIError("", {}, psycopg.OperationalError("Connection refused")))


def test_a_url_is_shown_without_its_password() -> None:
    assert Database("postgresql://me:s3cret@host/x").shown_url == "postgresql+psycopg://me:***@host/x"


def test_a_server_that_never_answers_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_module._CONNECT_SECONDS == 5
    monkeypatch.setattr(database_module, "_CONNECT_SECONDS", 2)  # the driver takes no less
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/x")
        begun = time.monotonic()
        with pytest.raises(DatabaseError, match="cannot reach the database"), database.begin():
            pass
    assert time.monotonic() - begun < 30


def test_rows_are_streamed_in_batches_where_so_asked(connection: Connection) -> None:
    for batch, cursors in ((None, 0), (2, 1)):
        result = execute_file(connection, "export_pairs", {"run_id": 1}, batch=batch)
        assert select(connection, "SELECT count(*) FROM pg_cursors") == [(cursors,)]
        result.close()


# --- queries of users: one statement, nothing written, nothing that runs for ever --------------------


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
    assert unguarded_note(filled) is None


@pytest.mark.parametrize(("query", "message"), REFUSED)
def test_nothing_but_one_query_is_let_through(filled: Database, query: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message) as failure:
        run_query(filled, query, 5)
    assert "\n" not in str(failure.value)
    with filled.begin() as connection:
        assert select(connection, "SELECT count(*) FROM problems") == [(3,)]
        execute(connection, "CREATE TEMPORARY TABLE still_writable (id int) ON COMMIT DROP")


def test_other_names_may_look_like_these(filled: Database) -> None:
    query = "SELECT 1 AS not_set_config, 'lo_x set_configs' AS pg_terminate_backend$1 -- pg_notified"
    assert run_query(filled, query, 5)[1] == [(1, "lo_x set_configs")]


def test_a_query_leaves_nothing_in_its_session(filled: Database) -> None:
    with pytest.raises(BadInputError, match="division by zero"):
        run_query(filled, "SELECT 1 / (SELECT 0 FROM pg_sleep(0.01))", 5)
    left = """
        SELECT current_user, current_setting('transaction_read_only'),
            (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM problems)
    """
    with filled.begin() as connection:
        assert select(connection, left) == [("hsstar", "off", 0, 3)]


def test_a_query_has_limits_of_time_and_temporary_files(
    filled: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInputError, match="the query took longer than 1 s"):
        run_query(filled, "SELECT pg_sleep(30)", 1)
    monkeypatch.setattr("hsstar.store.read.sql._TEMPORARY_FILES", "1MB")
    with pytest.raises(BadInputError, match="needs more than 1MB of temporary files"):
        run_query(filled, "SELECT * FROM generate_series(1, 2000000) AS x ORDER BY random()", 30)


def test_rows_come_as_they_are_read(filled: Database) -> None:
    many = "generate_series(1, 10000) AS a, generate_series(1, 10000) AS b"
    with querying(filled, f"SELECT repeat('x', 1000) FROM {many}", 30) as (_, rows):
        assert [len(row) for row in itertools.islice(rows, 3)] == [1] * 3


def test_queries_run_under_a_role_that_cannot_log_in(filled: Database) -> None:
    columns = "current_user, session_user, rolcanlogin, rolsuper"
    query = f"SELECT {columns} FROM pg_roles WHERE rolname = current_user"
    assert run_query(filled, query, 5)[1] == [("hsstar_reader", "hsstar", False, False)]


@contextmanager
def rights(database: Database, change: str, undo: str) -> Iterator[None]:
    """Rights that a superuser has changed."""
    as_superuser(database, change)
    try:
        yield
    finally:
        as_superuser(database, undo)


@pytest.mark.parametrize("right", ["read_server_files", "write_server_files", "execute_server_program"])
def test_a_login_with_rights_over_the_server_is_refused(filled: Database, right: str) -> None:
    message = "does not run as 'hsstar', a superuser or a reader or writer"
    with (
        rights(filled, f"GRANT pg_{right} TO hsstar", f"REVOKE pg_{right} FROM hsstar"),
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
        assert "since the role hsstar_reader is missing" in (unguarded_note(filled) or "")
        assert run_query(filled, "SELECT current_user", 5)[1] == [("hsstar",)]
        with pytest.raises(BadInputError, match="hsstar sql is read-only; use psql to change data"):
            run_query(filled, "DELETE FROM problems RETURNING id", 5)
