"""One Postgres per test session, and in it databases that a test may do anything to."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Connection, make_url

from hsstar.local import postgres
from hsstar.local.postgres import Postgres
from hsstar.store import migrate
from hsstar.store.database import Database
from tests.store.drawing import sampling, terminations, wake_ups
from tests.store.driver import begin, begin_in, checkpoint, verifier
from tests.waiting import wait_for

__all__ = ["begin", "begin_in", "checkpoint", "sampling", "terminations", "verifier", "wake_ups"]  # fixtures

MakeDatabase = Callable[[str | None], AbstractContextManager[Database]]
"""Makes a database from a template (None: an empty one); it is gone at the end of the block."""

Scratch = Callable[[], AbstractContextManager[Connection]]
"""Opens a transaction in a migrated database that is rolled back in the end."""


@contextmanager
def temporary_server() -> Iterator[str]:
    """A server of our own: no durability, no trace of it afterwards."""
    root = Path(tempfile.mkdtemp(prefix="hst-", dir="/tmp"))
    root.chmod(0o755)
    server = Postgres(root / "home", root / "servers")
    try:
        with pytest.MonkeyPatch.context() as patch:  # for the start alone: other tests share this process
            patch.setattr(postgres, "INITDB_OPTIONS", (*postgres.INITDB_OPTIONS, "--no-sync"))
            # an autovacuum worker runs as a superuser, so DROP DATABASE could not end it
            off = dict.fromkeys(("autovacuum", "fsync", "full_page_writes", "synchronous_commit"), "off")
            patch.setattr(postgres, "TUNING", postgres.TUNING | off | {"deadlock_timeout": "100ms"})
            server.start()
        yield server.url
    finally:
        server.stop()
        shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    with temporary_server() as url:
        yield url


@pytest.fixture(scope="session")
def make_database(server_url: str) -> MakeDatabase:
    numbers = itertools.count()

    def copy(template: str, name: str) -> None:
        # copying files takes a tenth of the time of writing every page to the log
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
        with psycopg.connect(server_url, autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))

    def drop(name: str) -> None:
        """Drop a database; a superuser's session that is closed and has not ended yet could not be ended."""
        superusers = "SELECT FROM pg_stat_activity WHERE datname = %s AND usename = 'postgres'"
        with psycopg.connect(server_url, autocommit=True) as connection:
            wait_for(
                lambda: not connection.execute(superusers, [name]).fetchone(), what="no superuser is in it"
            )
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def make(template: str | None) -> Iterator[Database]:
        name = f"test_{next(numbers)}"
        copy(template or "template0", name)
        database = Database(make_url(server_url).set(database=name).render_as_string())
        try:
            yield database
        finally:
            database.close()
            drop(name)

    return make


@pytest.fixture(scope="session")
def template(make_database: MakeDatabase) -> Iterator[str]:
    """A migrated database to copy from."""
    with make_database(None) as database:
        migrate.upgrade(database)
        database.close()
        yield str(make_url(database.url).database)


@pytest.fixture
def empty_database(make_database: MakeDatabase) -> Iterator[Database]:
    """A database without any table."""
    with make_database(None) as database:
        yield database


@pytest.fixture
def database(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """A migrated database of the test's own."""
    with make_database(template) as database:
        yield database


@pytest.fixture(scope="session")
def scratch(make_database: MakeDatabase, template: str) -> Iterator[Scratch]:
    """Transactions that leave nothing behind: the quick way to a clean database."""
    with make_database(template) as database:

        @contextmanager
        def rolled_back() -> Iterator[Connection]:
            with database.engine.connect() as connection, connection.begin() as transaction:
                yield connection
                transaction.rollback()

        yield rolled_back


@pytest.fixture
def connection(scratch: Scratch) -> Iterator[Connection]:
    """One transaction that is rolled back in the end."""
    with scratch() as connection:
        yield connection
