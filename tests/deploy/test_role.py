"""The script by which the compose file's Postgres gets hsstar's role, run against a real server."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
import pytest

from hsstar.local.postgres import SUPERUSER, Postgres
from hsstar.store import migrate
from hsstar.store.database import Database
from hsstar.store.read.sql import run_query
from tests.deploy.manifests import ROOT

SCRIPT = ROOT / "deploy" / "postgres" / "role.sh"


@pytest.mark.skipif(shutil.which("psql") is None, reason="the script needs psql, as its image has it")
def test_the_role_owns_its_database_and_is_no_superuser() -> None:
    root = Path(tempfile.mkdtemp(prefix="hst-", dir="/tmp"))
    root.chmod(0o755)
    server = Postgres(root / "home", root / "servers")
    password = root / "hsstar_password"
    password.write_text('it\'s "quoted" $(here)\n')
    try:
        server.start()
        host: dict[str, Any] = {"host": str(server.socket_directory), "user": SUPERUSER, "dbname": "postgres"}
        with psycopg.connect(**host, autocommit=True) as connection:
            connection.execute("DROP DATABASE hsstar")
            connection.execute("DROP ROLE hsstar")
        subprocess.run(
            ["sh", str(SCRIPT)],
            env=os.environ
            | {
                "PGHOST": str(server.socket_directory),
                "POSTGRES_USER": SUPERUSER,
                "HSSTAR_PASSWORD_FILE": str(password),
            },
            check=True,
            capture_output=True,
        )
        database = Database(server.url)
        migrate.upgrade(database)
        columns, rows = run_query(database, "SELECT rolsuper FROM pg_roles WHERE rolname = 'hsstar'", 10)
        assert (columns, rows) == (["rolsuper"], [(False,)])
        database.close()
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)
