"""Real PgBouncer in transaction mode: a server connection belongs to a client for one transaction only."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from hsstar.domain.errors import BadInputError, DatabaseError
from hsstar.store import migrate
from hsstar.store.database import Database
from hsstar.store.reader_role import guard
from tests.acceptance.conftest import temporary_home
from tests.acceptance.invariants import check_finished_run
from tests.brokers.conftest import StartWorker, add_verification
from tests.brokers.servers import CONNECTIONS, PASSWORD, Server, through
from tests.store.factory import run_query, select
from tests.waiting import wait_for


def test_the_schema_migrates_and_queries_are_guarded(bouncer: Server, empty_database: Database) -> None:
    pooled = Database(through(bouncer, empty_database))
    migrate.upgrade(pooled)
    pooled.check_schema()
    with pooled.begin() as connection:
        assert guard(connection).reader
    for _ in range(2 * CONNECTIONS):  # a statement that stays prepared would be met again
        _, rows = run_query(pooled, "SELECT current_user, count(*) FROM problems", 5)
        assert rows == [("hsstar_reader", 0)]
        with pytest.raises(BadInputError, match="read-only"):
            run_query(pooled, "DELETE FROM problems RETURNING id", 5)
        with pytest.raises(BadInputError, match="division by zero"):
            run_query(pooled, "SELECT 1 / (SELECT 0)", 5)
    with empty_database.begin() as connection:
        assert select(connection, "SELECT * FROM pg_locks WHERE locktype = 'advisory'") == []
    pooled.close()


def test_limits_hold_for_their_transaction_and_nobody_else(bouncer: Server, database: Database) -> None:
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


def test_more_clients_than_connections_take_turns(bouncer: Server, database: Database) -> None:
    def work(number: int) -> None:
        pooled = Database(through(bouncer, database))
        add = text("INSERT INTO datasets (name) VALUES (:name) ON CONFLICT DO NOTHING")
        for _ in range(20):
            with pooled.begin() as connection:
                connection.execute(text("SELECT pg_advisory_xact_lock(7)"))
                connection.execute(add, {"name": f"of {number}"})
        pooled.close()

    with ThreadPoolExecutor(4 * CONNECTIONS) as pool:
        list(pool.map(work, range(4 * CONNECTIONS)))
    with database.begin() as connection:
        backends = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        ((added, connected),) = select(connection, f"SELECT count(*), ({backends}) FROM datasets")
    assert (added, connected <= CONNECTIONS + 1) == (4 * CONNECTIONS, True)  # and our own


@pytest.mark.slow
def test_a_worker_runs_its_jobs_through_it(
    bouncer: Server, database: Database, embedded_broker: str, start_worker: StartWorker
) -> None:
    with start_worker(embedded_broker, HSSTAR_DATABASE_URL=through(bouncer, database)) as worker:
        for _ in range(4):
            worker.wait_for_job(add_verification(database))
        assert worker.end() == 0
        assert "WARNING" not in worker.said
        assert PASSWORD not in worker.said


def test_tls_of_the_url_is_used_and_checked(bouncer: Server, database: Database, certificates: Path) -> None:
    def trusting(authority: str) -> Database:
        options = f"sslmode=verify-full&sslrootcert={certificates}/{authority}"
        return Database(through(bouncer, database, options))

    checked = trusting("ca.pem")
    with checked.begin() as connection:
        raw = connection.connection.driver_connection
        assert isinstance(raw, psycopg.Connection)
        assert raw.pgconn.ssl_in_use
    checked.close()
    refused = pytest.raises(DatabaseError, match="certificate verify failed")
    with refused as refusal, trusting("server.pem").begin():
        pass
    assert PASSWORD not in str(refusal.value)


@pytest.mark.heavy
def test_an_iteration_over_servers_of_other_people_ends_as_over_the_embedded_ones(
    rabbitmq: Server, bouncer: Server, empty_database: Database
) -> None:
    with temporary_home() as home:
        home.environment["HSSTAR_DATABASE_URL"] = through(bouncer, empty_database)
        home.environment["HSSTAR_BROKER_URL"] = rabbitmq.urls["amqps"]
        home.ok("db", "upgrade")
        home.import_demo_problems(200)
        home.ok("up")
        home.ok("runs", "create", "--recipe", str(home.write_recipe("abroad")))
        home.ok("iterate", "abroad")
        home.wait_until_done("abroad")
        check_finished_run(home, "abroad", json.loads(home.ok("runs", "show", "abroad")))
        (row,) = home.query("select sum(tokens) as tokens from samples")
        assert row["tokens"] > 0
        told = "select sum(tokens_done) as tokens from worker_activity"
        wait_for(lambda: home.query(told) == [row], 20, "the heartbeat after the last sample")
        assert not home.query("select * from worker_activity where note is not null")
