"""The index of statements on a Postgres that has pg_trgm, and the refusal of one that has not."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from hsstar.commands.search import index_text
from hsstar.domain.errors import ConflictError
from hsstar.insights.problems import list_problems
from hsstar.local.accounts import account_for
from hsstar.store import migrate
from hsstar.store.database import Database
from hsstar.store.read.problems import ProblemFilter
from tests.brokers.conftest import started
from tests.brokers.servers import Server, free_port
from tests.deploy.manifests import tool
from tests.store.factory import add_iteration, add_problems, add_run, execute


def make_postgres(folder: Path) -> Server:
    """Debian's Postgres, which has the extensions of postgresql-contrib."""
    tool("pg_createcluster")  # skips without the package
    programs = max(Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name)) / "bin"
    account = account_for(Path("/var/lib/hsstar"))
    os.chown(folder, account.user_id, account.group_id)
    initdb = [str(programs / "initdb"), "-D", "data", "-U", "hsstar", "-A", "trust", "--no-sync"]
    subprocess.run(account.command(initdb), cwd=folder, check=True, capture_output=True)
    port = free_port()
    serve = ["-D", "data", "-p", str(port), "-c", f"unix_socket_directories={folder}", "-F"]
    url = f"postgresql://hsstar@127.0.0.1:{port}/postgres"
    return Server(folder, account.command([str(programs / "postgres"), *serve]), {"postgresql": url})


@pytest.fixture(scope="module")
def other() -> Iterator[Database]:
    with started(make_postgres) as server:
        database = Database(server.urls["postgresql"])
        migrate.upgrade(database)
        yield database
        database.close()


def test_a_search_uses_the_index_and_finds_the_same_without_it(other: Database) -> None:
    with other.begin() as connection:
        ids = add_problems(connection, 500)
        change = "UPDATE problems SET statement = 'Find the Hypotenuse of it' WHERE id = :id"
        execute(connection, change, id=ids[7])
        run = add_run(connection)
        add_iteration(connection, run, ids)

    def found() -> list[int]:
        page = list_problems(other, run.name, wanted=ProblemFilter(text="hypotenuse"))
        return [row.problem_id for row in page.problems]

    assert found() == [ids[7]]
    assert [index_text(other), index_text(other)] == [True, False]
    assert found() == [ids[7]]
    with other.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        query = "EXPLAIN SELECT id FROM problems WHERE statement ILIKE '%hypotenuse%'"
        plan = "\n".join(connection.execute(text(query)).scalars())
    assert "ix_problems_statement_trigrams" in plan
    assert [index_text(other, drop=True), index_text(other, drop=True)] == [True, False]
    assert found() == [ids[7]]


def test_a_postgres_without_the_extension_says_so_and_searches_all_the_same(database: Database) -> None:
    with pytest.raises(ConflictError, match="no extension pg_trgm"):
        index_text(database)
