"""Real PgBouncer in transaction mode: a server connection belongs to a client for one transaction only."""

import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, text

from hsstar.domain.errors import BadInputError, DatabaseError
from hsstar.store import migrate
from hsstar.store.database import Database
from hsstar.store.read.sql import run_query
from hsstar.store.reader_role import guard
from tests.brokers.conftest import CONNECTIONS, StartWorker
from tests.brokers.servers import PASSWORD, PgBouncer
from tests.store.conftest import MakeDatabase


def through(bouncer: PgBouncer, database: Database, options: str = "") -> str:
    return bouncer.url(str(make_url(database.url).database), options)


def test_the_schema_migrates_and_queries_are_guarded(bouncer: PgBouncer, make_database: MakeDatabase) -> None:
    with make_database(None) as direct:
        pooled = Database(through(bouncer, direct))
        migrate.upgrade(pooled)
        pooled.check_schema()
        with pooled.begin() as connection:
            assert guard(connection).reader
        for _ in range(2 * CONNECTIONS):  # a statement that stays prepared would be met again
            assert run_query(pooled, "SELECT current_user, count(*) FROM problems", 5)[1] == [
                ("hsstar_reader", 0)
            ]
            with pytest.raises(BadInputError, match="read-only"):
                run_query(pooled, "DELETE FROM problems RETURNING id", 5)
            with pytest.raises(BadInputError, match="division by zero"):
                run_query(pooled, "SELECT pg_advisory_lock(1), 1 / (SELECT 0)", 5)
        with direct.begin() as connection:
            assert connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")) == 0
        pooled.close()


def test_limits_hold_for_their_transaction_and_nobody_else(bouncer: PgBouncer, database: Database) -> None:
    url = through(bouncer, database)
    pooled = Database(url)
    with pooled.begin() as connection:
        assert connection.scalar(text("SHOW statement_timeout")) == "10min"
        assert connection.scalar(text("SHOW lock_timeout")) == "1min"
    run_query(pooled, "SELECT 1", 1)
    pooled.close()
    with psycopg.connect(url, autocommit=True) as stranger:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert stranger.execute(f"SHOW {setting}").fetchone() == ("0",)
        assert stranger.execute("SELECT current_user").fetchone() == ("hsstar",)


def test_more_clients_than_connections_take_turns(bouncer: PgBouncer, database: Database) -> None:
    url = through(bouncer, database)
    failures: list[Exception] = []

    def work(number: int) -> None:
        pooled = Database(url)
        try:
            for _ in range(20):
                with pooled.begin() as connection:
                    connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
                    connection.execute(
                        text("INSERT INTO datasets (name) VALUES (:name) ON CONFLICT DO NOTHING"),
                        {"name": f"of {number}"},
                    )
        except Exception as error:
            failures.append(error)
        finally:
            pooled.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4 * CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.begin() as connection:
        assert connection.scalar(text("SELECT count(*) FROM datasets")) == 4 * CONNECTIONS
        backends = connection.scalar(
            text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        )
    assert backends <= CONNECTIONS + 1  # and our own


def test_workers_run_their_jobs_through_it(
    bouncer: PgBouncer,
    database: Database,
    embedded_broker: str,
    start_worker: StartWorker,
    add_verification: Callable[[], int],
    wait_for_job: Callable[..., None],
) -> None:
    url = through(bouncer, database)
    with (
        start_worker(embedded_broker, "one", HSSTAR_DATABASE_URL=url) as one,
        start_worker(embedded_broker, "two", HSSTAR_DATABASE_URL=url) as two,
    ):
        for _ in range(4):
            wait_for_job(add_verification(), one)
        assert [one.end(), two.end()] == [0, 0]
        for worker in (one, two):
            assert "WARNING" not in worker.said
            assert PASSWORD not in worker.said


def test_tls_of_the_url_is_used_and_checked(bouncer: PgBouncer, database: Database, tmp_path: Path) -> None:
    checked = Database(through(bouncer, database, f"sslmode=verify-full&sslrootcert={bouncer.authority}"))
    with checked.begin() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        assert raw.pgconn.ssl_in_use
    checked.close()
    (tmp_path / "empty.pem").write_bytes((bouncer.authority.parent / "server.pem").read_bytes())
    unknown = Database(through(bouncer, database, f"sslmode=verify-full&sslrootcert={tmp_path}/empty.pem"))
    with pytest.raises(DatabaseError, match="certificate verify failed") as refusal, unknown.begin():
        pass
    assert PASSWORD not in str(refusal.value)


def test_a_wrong_password_is_one_line_without_it(bouncer: PgBouncer, database: Database) -> None:
    wrong = Database(through(bouncer, database).replace(PASSWORD, "n0t-it"))
    with pytest.raises(DatabaseError, match="refuses the login") as refusal, wrong.begin():
        pass
    assert "n0t-it" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
