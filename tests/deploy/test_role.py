"""The script by which the compose file's Postgres gets hsstar's role, run against a real server."""

import os
import subprocess
from pathlib import Path

import psycopg

from hsstar.local.postgres import SUPERUSER
from hsstar.store import migrate
from hsstar.store.database import Database
from hsstar.store.read.sql import run_query
from tests.deploy.manifests import DEPLOY, tool
from tests.local.conftest import Place, place

__all__ = ["place"]  # a fixture


def test_the_role_owns_its_database_and_is_no_superuser(place: Place, tmp_path: Path) -> None:
    tool("psql")  # as the script's image has it
    password = tmp_path / "hsstar_password"
    password.write_text('it\'s "quoted" $(here)\n')
    server = place.postgres()
    server.start()
    host = str(server.socket_directory)
    with psycopg.connect(host=host, user=SUPERUSER, dbname="postgres", autocommit=True) as connection:
        connection.execute("DROP DATABASE hsstar")
        connection.execute("DROP ROLE hsstar")
    settings = {"PGHOST": host, "POSTGRES_USER": SUPERUSER, "HSSTAR_PASSWORD_FILE": str(password)}
    script = ["sh", str(DEPLOY / "postgres" / "role.sh")]
    subprocess.run(script, env=os.environ | settings, check=True, capture_output=True)
    database = Database(server.url)
    migrate.upgrade(database)
    answer = run_query(database, "SELECT rolsuper FROM pg_roles WHERE rolname = 'hsstar'", 10)
    assert answer == (["rolsuper"], [(False,)])
    database.close()
