"""Open the database of a command, and say where the home of a demo or a study is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from hsstar.commands.connection import connect
from hsstar.settings import Settings
from hsstar.store.database import Database


def own_settings(settings: Settings, *path: str) -> Settings:
    """Return the settings of a home below the environment's.

    Checkpoints go there too, unless the environment names a database.
    """
    home = settings.home.joinpath(*path)
    models = home / "models" if settings.database_url is None else settings.models_dir
    return replace(settings, home=home, models_dir=models)


@contextmanager
def open_database(settings: Settings | None = None, *, check_schema: bool = True) -> Iterator[Database]:
    """Open the database of the settings (by default the environment's), else the embedded one.

    Raise DatabaseError if none is up or can be reached, SchemaError if this code does not know its schema.
    """
    database = connect(settings or Settings.from_environment(), check_schema=check_schema)
    try:
        yield database
    finally:
        database.close()
