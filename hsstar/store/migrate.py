"""Schema migrations by Alembic, safe when several processes start at once."""

from typing import TYPE_CHECKING, Literal

from sqlalchemy import Connection, text

from hsstar.domain.errors import SchemaError
from hsstar.store.database import SCHEMA_REVISION, Database, schema_revision
from hsstar.store.reader_role import ensure_reader

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATION_LOCK = 0x6873737461726D67  # "hsstarmg"
_WITHOUT_LIMITS = """
    SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '0', true),
        set_config('idle_in_transaction_session_timeout', '0', true)
"""


def _config() -> "Config":
    from alembic.config import Config  # takes a tenth of a second, and a schema is mostly up to date

    config = Config()
    config.set_main_option("script_location", "hsstar:migrations")
    return config


def head() -> str:
    """Return the newest revision of this code."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def current(database: Database) -> str | None:
    """Return the revision of the database; None if it has no hsstar schema."""
    with database.begin() as connection:
        return schema_revision(connection)


def upgrade(database: Database, revision: str = "head") -> None:
    """Migrate up to a revision; a second process waits for the first one and then changes nothing."""
    _migrate(database, revision, "upgrade")


def downgrade(database: Database, revision: str) -> None:
    """Migrate down to a revision (`base` removes every table)."""
    _migrate(database, revision, "downgrade")


def _migrate(database: Database, revision: str, action: Literal["upgrade", "downgrade"]) -> None:
    with database.begin() as connection:
        connection.execute(text(_WITHOUT_LIMITS))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        present = schema_revision(connection)  # raises if no migration starts from this schema
        if (action, revision, present) != ("upgrade", "head", SCHEMA_REVISION):
            _run_alembic(connection, revision, action)
        ensure_reader(connection)


def _run_alembic(connection: Connection, revision: str, action: Literal["upgrade", "downgrade"]) -> None:
    from alembic import command
    from alembic.util import CommandError

    config = _config()
    config.attributes["connection"] = connection
    try:
        getattr(command, action)(config, revision)
    except CommandError as error:
        raise SchemaError(f"cannot migrate to {revision!r}: {error}") from None
