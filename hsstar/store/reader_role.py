"""The role for queries of users: it may only read hsstar's tables."""

from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text
from sqlalchemy.exc import DBAPIError

READER = "hsstar_reader"

HOW_TO_MAKE = (
    f"as a superuser: CREATE ROLE {READER} NOLOGIN; GRANT {READER} TO <the role of hsstar's URL>; "
    "then: hsstar db upgrade"
)

# PG 16 separated the right to become a role (SET) from the use of its privileges (INHERIT)
_CREATE = "CREATE ROLE hsstar_reader NOLOGIN"
_BECOME = "GRANT hsstar_reader TO CURRENT_USER WITH INHERIT FALSE, SET TRUE"
_BECOME_BEFORE_16 = "GRANT hsstar_reader TO CURRENT_USER"

BEGIN_READING = """
    SET TRANSACTION READ ONLY;
    SELECT set_config('role', rolname, true) FROM pg_roles
    WHERE rolname = 'hsstar_reader' AND pg_has_role(
        session_user, oid,
        CASE WHEN CAST(current_setting('server_version_num') AS int) >= 160000 THEN 'SET' ELSE 'MEMBER' END
    )
"""
"""Makes the present transaction one that may only read, under the role for it where this login has that."""

_LET_READ = """
    DO $$
    DECLARE
        relation record;
    BEGIN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO hsstar_reader', current_schema());
        FOR relation IN
            SELECT relname FROM pg_class
            WHERE relnamespace = CAST(current_schema() AS regnamespace) AND relkind IN ('r', 'p', 'v')
              AND pg_has_role(relowner, 'USAGE')
        LOOP
            EXECUTE format('GRANT SELECT ON %I.%I TO hsstar_reader', current_schema(), relation.relname);
        END LOOP;
    END $$
"""


@dataclass(frozen=True, slots=True)
class Guard:
    """The protection of the database from queries, besides the read-only transaction."""

    login: str  # the role that hsstar connects as
    reader: bool  # whether queries run under a role that may only read
    powerful: bool  # whether the login could leave that role and reach files or programs of the server


def guard(connection: Connection) -> Guard:
    """Return the guards of this login."""
    rows = connection.execute(
        text("""
            SELECT session_user AS login,
                coalesce((
                    SELECT pg_has_role(
                        session_user, oid,
                        CASE WHEN CAST(current_setting('server_version_num') AS int) >= 160000
                            THEN 'SET' ELSE 'MEMBER' END
                    ) FROM pg_roles WHERE rolname = :reader
                ), false) AS reader,
                pg_has_role(session_user, 'pg_read_server_files', 'MEMBER')
                    OR pg_has_role(session_user, 'pg_write_server_files', 'MEMBER')
                    OR pg_has_role(session_user, 'pg_execute_server_program', 'MEMBER') AS powerful
        """),
        {"reader": READER},
    )
    return Guard(**rows.mappings().one())


def only_read(connection: Connection) -> None:
    """Let this transaction only read, under the role for that where the login may become it."""
    connection.execute(text("SET TRANSACTION READ ONLY"))
    if guard(connection).reader:
        connection.execute(text("SELECT set_config('role', :reader, true)"), {"reader": READER})


def ensure_reader(connection: Connection) -> None:
    """Create the role if this login may, and grant it every table and view.

    If the login may not, `guard`, `hsstar sql` and `hsstar doctor` say so.
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
    """Change roles; another database of the server may make the same change at this moment."""
    try:
        with connection.begin_nested():
            connection.execute(statement)
    except DBAPIError:
        return
