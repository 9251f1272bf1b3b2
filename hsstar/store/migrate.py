"""Schema migrations by Alembic, safe when several processes start at once."""

from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import text

from hsstar.domain.errors import SchemaError
from hsstar.store.database import Database, schema_revision
from hsstar.store.reader_role import ensure_reader

_MIGRATION_LOCK = 0x6873737461726D67  # "hsstarmg"
_WITHOUT_LIMITS = """
    SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true),
        set_config('idle_in_transaction_session_timeout', '0', true)
"""


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "hsstar:migrations")
    return config


def head() -> str:
    """Return the newest revision of this code."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(database: Database) -> str | None:
    """Return the revision of the database; None if it has no hsstar schema."""
    with database.begin() as connection:
        return schema_revision(connection)


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up to a revision; a second process waits for the first one and then changes nothing."""
    _migrate(database, revision, command.upgrade)


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision (`base` removes every table)."""
    _migrate(database, revision, command.downgrade)


def _migrate(database: Database, revision: str, action: Callable[[Config, str], None]) -> None:
    config = _config()
    with database.begin() as connection:
        connection.execute(text(_WITHOUT_LIMITS))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        schema_revision(connection)  # raises if no migration starts from this schema
        config.attributes["connection"] = connection
        try:
            action(config, revision)
        except CommandError as error:
            raise SchemaError(f"cannot migrate to {revision!r}: {error}") from None
        ensure_reader(connection)
