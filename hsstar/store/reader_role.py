"""The role that queries of users run under: it may read hsstar's tables and do nothing else."""

from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

READER = "hsstar_reader"

HOW_TO_MAKE = (
    f"as a superuser: CREATE ROLE {READER} NOLOGIN; GRANT {READER} TO <the role of hsstar's URL>; "
    "then: hsstar db upgrade"
)

# PG 16 told the right to become a role from the right to use what it may
_CREATE = "CREATE ROLE hsstar_reader NOLOGIN"
_BECOME = "GRANT hsstar_reader TO CURRENT_USER WITH INHERIT FALSE, SET TRUE"
_BECOME_BEFORE_16 = "GRANT hsstar_reader TO CURRENT_USER"

_LET_READ = """
    DO $$
    DECLARE
        found record;
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO hsstar_reader', current_schema());
        FOR found IN
            SELECT relname FROM pg_class
            WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'p', 'v')
              AND pg_has_role(relowner, 'USAGE')
        LOOP
            EXECUTE format('GRANT SELECT ON %I.%I TO hsstar_reader', current_schema(), found.relname);
        END LOOP;
    END $$
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """What stands between a query and the database, besides the read-only transaction.

    Attributes:
        login: the role that hsstar connects as.
        reader: whether queries run under a role that may only read.
        powerful: whether the login could leave that role and then reach files or programs of the server.
    """

    login: str
    reader: bool
    powerful: bool


def guard(connection: Connection) -> Guard:
    """Looks which guards there are for this login."""
    row = connection.execute(
        text("""
            SELECT session_user,
                coalesce((
                    SELECT pg_has_role(
                        session_user, oid,
                        CASE WHEN CAST(current_setting('server_version_num') AS int) >= 160000
                            THEN 'SET' ELSE 'MEMBER' END
                    ) FROM pg_roles WHERE rolname = :reader
                ), false),
                pg_has_role(session_user, 'pg_read_server_files', 'MEMBER')
                    OR pg_has_role(session_user, 'pg_write_server_files', 'MEMBER')
                    OR pg_has_role(session_user, 'pg_execute_server_program', 'MEMBER')
        """),
        {"reader": READER},
    ).one()
    return Guard(*row)


def ensure_reader(connection: Connection) -> None:
    """Makes the role where this login may, and lets it read every table and view there is.

    Where it may not, `guard` tells, and so do `hsstar sql` and `hsstar doctor`.
    """
    rights = connection.execute(
        text("""
            SELECT rolsuper OR rolcreaterole AS creator,
                EXISTS (SELECT FROM pg_roles WHERE rolname = :reader) AS present,
                CAST(current_setting('server_version_num') AS int) >= 160000 AS modern
            FROM pg_roles WHERE rolname = current_user
        """),
        {"reader": READER},
    ).one()
    if rights.creator and not rights.present:
        _attempt(connection, text(_CREATE))
    if rights.creator and not guard(connection).reader:
        _attempt(connection, text(_BECOME) if rights.modern else text(_BECOME_BEFORE_16))
    if guard(connection).reader:
        connection.execute(text(_LET_READ))


def _attempt(connection: Connection, statement: TextClause) -> None:
    """A change of roles, which all databases of a server share: another one may make it at this moment."""
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except DBAPIError:
        return
