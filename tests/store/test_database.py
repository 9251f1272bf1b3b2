"""Transactions: limits that hold, trouble that passes, servers that are away, and few connections."""

import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import psycopg
import pytest
from sqlalchemy import Connection, make_url

from hsstar.domain.errors import BadInputError, DatabaseError
from hsstar.store import database as database_module
from hsstar.store.database import Database, Limits
from tests.store.factory import add_problems, execute, select
from tests.store.threads import at_once
from tests.waiting import wait_for

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


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


def _end_others(database: Database) -> None:
    """Ends every other connection to the database, as a restart of the server does."""
    url = make_url(database.url).set(username="postgres", drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as admin:
        admin.execute(f"SELECT pg_terminate_backend(pid) {OTHERS}".encode())


def test_a_connection_that_is_lost_in_the_middle_is_replaced(database: Database, rows: list[int]) -> None:
    attempts = []

    def work(connection: Connection) -> None:
        attempts.append(1)
        touch(connection, rows[0])
        if len(attempts) == 1:
            _end_others(database)
        touch(connection, rows[1])

    database.run(work)
    assert (len(attempts), exclamations(database)) == (2, 2)


def test_a_connection_that_has_died_in_the_pool_is_noticed_before_anything_is_done(
    database: Database,
) -> None:
    assert number(database, "SELECT 1") == 1
    _end_others(database)
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
    other = Database(database.url)
    wait_for(lambda: number(other, f"SELECT count(*) {OTHERS}") == 1)
    other.close()


def test_a_server_that_is_away_is_waited_for_as_long_as_the_limits_say() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"postgresql://me@127.0.0.1:{taken.getsockname()[1]}/x"
    for limits, low, high in ((Limits(), 0.0, 3.0), (Limits(patience=0.5), 0.5, 60.0)):
        begun = time.monotonic()
        with pytest.raises(DatabaseError, match="cannot reach the database"), Database(url, limits).begin():
            pass
        assert low <= time.monotonic() - begun < high


def test_a_server_that_never_answers_is_given_up_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    assert database_module._CONNECT_SECONDS == 5
    monkeypatch.setattr(database_module, "_CONNECT_SECONDS", 2)  # the driver takes no less
    with socket.create_server(("127.0.0.1", 0)) as silent:
        database = Database(f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/x")
        begun = time.monotonic()
        with pytest.raises(DatabaseError, match="cannot reach the database"), database.begin():
            pass
    assert time.monotonic() - begun < 30
