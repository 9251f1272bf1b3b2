"""The pages over a real database that is filled once, and a client without a browser."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from hsstar.store.database import Database
from hsstar.web.app import make_app
from tests.store.conftest import MakeDatabase, make_database, server_url, template
from tests.web.rows import fill

__all__ = ["make_database", "server_url", "template"]


@pytest.fixture(scope="module")
def database(make_database: MakeDatabase, template: str) -> Iterator[Database]:
    """A database in which every page has something to show."""
    with make_database(template) as database:
        with database.begin() as connection:
            fill(connection)
        yield database


@pytest.fixture(scope="module")
def client(database: Database) -> Iterator[TestClient]:
    """A client of the pages over it."""
    app = make_app(database.url)
    with TestClient(app, base_url="http://localhost") as client:
        yield client
    app.state.database.close()
    app.state.queries.close()
    app.state.verifiers.close()
