"""A whole iteration over servers of other people: RabbitMQ with TLS, and Postgres behind PgBouncer."""

import json
from pathlib import Path

import pytest
from sqlalchemy import make_url

from hsstar.store.database import Database
from tests.acceptance.conftest import temporary_home
from tests.acceptance.invariants import check_finished_run
from tests.brokers.conftest import temporary_folder
from tests.brokers.servers import Server, pgbouncer


@pytest.mark.heavy
def test_an_iteration_ends_as_it_does_over_the_embedded_servers(
    rabbitmq: Server, certificates: Path, server_url: str, empty_database: Database
) -> None:
    with (
        temporary_folder() as folder,
        pgbouncer(folder, certificates, server_url, connections=4) as bouncer,
        temporary_home() as home,
    ):
        home.environment |= {
            "HSSTAR_DATABASE_URL": bouncer.url(str(make_url(empty_database.url).database)),
            "HSSTAR_BROKER_URL": rabbitmq.urls["amqps"],
        }
        home.ok("db", "upgrade")
        home.import_demo_problems(200)
        home.ok("up")
        home.ok("runs", "create", "--recipe", str(home.write_recipe("abroad")))
        home.ok("iterate", "abroad")
        home.wait_until_done("abroad")
        check_finished_run(home, "abroad", json.loads(home.ok("runs", "show", "abroad")))
        (row,) = home.query("select sum(tokens_done) as tokens from worker_activity")
        (drawn,) = home.query("select sum(tokens) as tokens from samples")
        assert int(row["tokens"]) == int(drawn["tokens"]) > 0
        assert not home.query("select * from worker_activity where note is not null")
