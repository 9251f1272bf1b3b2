"""Find the servers of the settings or of the local stack, and open the database."""

from dataclasses import replace

from hsstar.domain.errors import DatabaseError, LocalStackError
from hsstar.local.stack import Stack
from hsstar.settings import Settings
from hsstar.store.database import Database


def connect(settings: Settings, *, check_schema: bool = True) -> Database:
    """Open the database of the settings, else the embedded one; the caller closes it.

    Raise DatabaseError if none is up or can be reached, SchemaError if this code does not know its schema.
    """
    database = Database(locate_database(settings))
    try:
        if check_schema:
            database.check_schema()
    except BaseException:
        database.close()
        raise
    return database


def connected_settings(settings: Settings, *, broker: bool = False) -> Settings:
    """Fill in the URL of the database, and with `broker` that of the broker; those of the embedded servers.

    Without these, raise DatabaseError if the database is not up, LocalStackError if the broker is not.
    """
    connected = replace(settings, database_url=locate_database(settings))
    return replace(connected, broker_url=locate_broker(settings)) if broker else connected


def locate_database(settings: Settings) -> str:
    """Return the URL of the database, else of the embedded one; raise DatabaseError if that is not up."""
    if settings.database_url is not None:
        return settings.database_url
    stack = Stack(settings)
    if not stack.postgres.is_running():
        raise DatabaseError(f"no database: HSSTAR_DATABASE_URL is not set and {_why_not(stack)}")
    return stack.postgres.url


def locate_broker(settings: Settings) -> str:
    """Return the URL of the broker, else of the embedded one; raise LocalStackError if that is not up."""
    if settings.broker_url is not None:
        return settings.broker_url
    stack = Stack(settings)
    if not stack.broker.is_running():
        raise LocalStackError(f"no broker: HSSTAR_BROKER_URL is not set and {_why_not(stack)}")
    return stack.broker.url


def _why_not(stack: Stack) -> str:
    elsewhere = stack.elsewhere()
    if elsewhere is not None:
        return f"hsstar is up in {stack.home} {elsewhere}, not here"
    return f"hsstar is not up in {stack.home}; run: hsstar up"
