"""A database that is open, with the settings that found it."""

from typing import Self

from hsstar.settings import Settings
from hsstar.store.database import Database


class Opened:
    """What the parts of a client share; closing it closes the database's connections."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def __repr__(self) -> str:
        return f"<Client {self._database.shown_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._database.close()
