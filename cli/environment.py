"""What every command needs: the settings, the local stack, and a database that fits this code."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hsstar.domain.errors import DatabaseError, LocalStackError
from hsstar.local.stack import Stack
from hsstar.settings import Settings
from hsstar.store.database import Database


def connected_settings(settings: Settings, *, broker: bool = False) -> Settings:
    """The settings with the URLs filled in; those of the embedded servers where none is given.

    Args:
        settings: as the environment has them.
        broker: the broker too, which is left as it is otherwise.

    Raises:
        DatabaseError: nothing is given and the embedded database is not up.
        LocalStackError: nothing is given and the embedded broker is not up.
    """
    found = replace(settings, database_url=locate_database(settings))
    return replace(found, broker_url=locate_broker(settings)) if broker else found


def locate_database(settings: Settings) -> str:
    """The URL of the database, else of the embedded one.

    Raises:
        DatabaseError: the embedded one is not up.
    """
    if settings.database_url is not None:
        return settings.database_url
    postgres = Stack(settings).postgres
    if not postgres.is_running():
        raise DatabaseError(
            f"no database: HSSTAR_DATABASE_URL is not set and hsstar is not up in {settings.home}; "
            "run: hsstar up"
        )
    return postgres.url


def locate_broker(settings: Settings) -> str:
    """The URL of the broker, else of the embedded one.

    Raises:
        LocalStackError: the embedded one is not up.
    """
    if settings.broker_url is not None:
        return settings.broker_url
    broker = Stack(settings).broker
    if not broker.is_running():
        raise LocalStackError(
            f"no broker: HSSTAR_BROKER_URL is not set and hsstar is not up in {settings.home}; run: hsstar up"
        )
    return broker.url


def own_settings(settings: Settings, *path: str) -> Settings:
    """The settings of a home of its own below the environment's.

    Checkpoints are written there too, unless a database is given, whose checkpoints have their place.
    """
    home = settings.home.joinpath(*path)
    models = home / "models" if settings.database_url is None else settings.models_dir
    return replace(settings, home=home, models_dir=models)


@contextmanager
def open_database(settings: Settings | None = None, *, check_schema: bool = True) -> Iterator[Database]:
    """The database that the settings (by default the environment's) name, else the embedded one.

    Raises:
        DatabaseError: there is none, or it cannot be reached.
        SchemaError: its schema is not the one this code knows.
    """
    connected = connected_settings(settings or Settings.from_environment())
    database = Database(connected.database_url or "")
    try:
        if check_schema:
            database.check_schema()
        yield database
    finally:
        database.close()
