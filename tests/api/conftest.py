"""A client of the Python interface on a database of the test's own, and the command line beside it."""

from collections.abc import Iterator

import pytest

import hsstar
from tests.cli.conftest import (
    CommandLine,
    alone,
    checkpoint,
    cli,
    database,
    make_database,
    server_url,
    template,
    verifier,
)

__all__ = [
    "alone", "checkpoint", "cli", "database", "make_database", "server_url", "template", "verifier"
]  # fixtures  # fmt: skip


@pytest.fixture
def db(cli: CommandLine) -> Iterator[hsstar.Client]:
    with hsstar.connect() as client:
        yield client
