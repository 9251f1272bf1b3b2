"""Alembic's entry: migrates over a given connection, else over HSSTAR_DATABASE_URL."""

import os

from alembic import context
from sqlalchemy import Connection

from hsstar.domain.errors import BadInputError
from hsstar.store.database import Database


def _run(connection: Connection) -> None:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    connection = context.config.attributes.get("connection")
    if connection is not None:
        _run(connection)
        return
    url = os.environ.get("HSSTAR_DATABASE_URL")
    if not url:
        raise BadInputError("set HSSTAR_DATABASE_URL, or use: hsstar db upgrade")
    with Database(url).begin() as connection:
        _run(connection)


_main()
