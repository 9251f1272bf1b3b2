"""What workers say of themselves: who is there, what they do, and that they are alive."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.text import storable
from hsstar.store.database import SCHEMA_REVISION

_NOTE_CHARACTERS = 1_000
_FRESH_SECONDS = 30
"""A worker whose last heartbeat is younger may still live."""


def refuse_double(connection: Connection, name: str, host: str, living: Callable[[int], bool]) -> None:
    """Refuses a second worker of the same name while the first one may live.

    Args:
        connection: an open transaction.
        name: of the worker that wants to start.
        host: where it runs.
        living: whether a process id of this host is in use.

    Raises:
        ConflictError: naming the other one.
    """
    other = connection.execute(
        text("""
            SELECT host, process FROM workers
            WHERE name = :name AND state <> 'stopped'
              AND last_heartbeat > now() - make_interval(secs => :fresh)
        """),
        {"name": name, "fresh": _FRESH_SECONDS},
    ).first()
    if other is not None and (other.host != host or living(other.process)):
        raise ConflictError(
            f"a worker named {name!r} is at work on {other.host} (process {other.process}); "
            "give this one another name: --name"
        )


def enlist(
    connection: Connection,
    name: str,
    host: str,
    process: int,
    role: str,
    gpu: str | None = None,
    version: str | None = None,
) -> None:
    """A worker reports for duty; one of the same name that went before it is replaced."""
    connection.execute(
        text("""
            INSERT INTO workers (name, host, process, role, state, gpu, version)
            VALUES (:name, :host, :process, :role, 'idle', :gpu, :version)
            ON CONFLICT (name) DO UPDATE
            SET host = excluded.host, process = excluded.process, role = excluded.role, state = 'idle',
                gpu = excluded.gpu, version = excluded.version, jobs_done = 0, tokens_done = 0,
                started_at = now(), last_heartbeat = now(), note = NULL, noted_at = NULL,
                stop_requested_at = NULL
        """),
        {"name": name, "host": host, "process": process, "role": role, "gpu": gpu, "version": version},
    )


def is_draining(connection: Connection, name: str) -> bool:
    """Whether a process of this name was asked to stop and ended before it could sign off, just now."""
    found = connection.scalar(
        text("""
            SELECT true FROM workers
            WHERE name = :name AND stop_requested_at IS NOT NULL AND state <> 'stopped'
              AND last_heartbeat > now() - interval '1 minute'
        """),
        {"name": name},
    )
    return found is not None


def request_stop(
    connection: Connection, names: Sequence[str], roles: Sequence[str], *, everyone: bool
) -> list[str]:
    """Asks live workers to finish what they have in hand and to end; returns their names.

    Args:
        connection: an open transaction.
        names: workers by name, or by name without `@host`.
        roles: workers that serve exactly these queues, comma-separated as `workers.role` has them.
        everyone: all live workers.

    Raises:
        NotFoundError: a name or a role that no live worker has.
    """
    rows = connection.execute(
        text("""
            UPDATE workers SET stop_requested_at = coalesce(stop_requested_at, now())
            WHERE state <> 'stopped' AND last_heartbeat > now() - interval '1 minute'
              AND (
                  :everyone OR name = ANY (:names) OR split_part(name, '@', 1) = ANY (:names)
                  OR role = ANY (:roles)
              )
            RETURNING name, role
        """),
        {"names": list(names), "roles": list(roles), "everyone": everyone},
    ).all()
    known = {part for row in rows for part in (row.name, row.name.partition("@")[0])}
    if missing := [name for name in names if name not in known]:
        raise NotFoundError(f"no live worker is named {', '.join(missing)}; see: hsstar workers")
    served = {row.role for row in rows}
    if [role for role in roles if role not in served]:
        raise NotFoundError("no live worker has that role; see: hsstar workers")
    return sorted(row.name for row in rows)


def leave_note(connection: Connection, name: str, note: str) -> None:
    """A worker says what went wrong with its engine; the next note or its next start replaces it."""
    connection.execute(
        text("UPDATE workers SET note = :note, noted_at = now() WHERE name = :name"),
        {"name": name, "note": storable(note)[:_NOTE_CHARACTERS]},
    )


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker has to know before it goes on.

    Attributes:
        schema: the revision of the database.
        stop: whether it was asked to finish what it has in hand and to end.
    """

    schema: str
    stop: bool


def read_orders(connection: Connection, name: str) -> Orders:
    """What a worker has to know; waits for nobody, not even for a write of the worker's own."""
    row = connection.execute(
        text("""
            SELECT (SELECT version_num FROM alembic_version), stop_requested_at IS NOT NULL
            FROM workers WHERE name = :name
        """),
        {"name": name},
    ).first()
    return Orders(SCHEMA_REVISION, stop=False) if row is None else Orders(*row)


def heartbeat(connection: Connection, name: str, *, busy: bool, jobs_done: int) -> None:
    """A worker says that it is alive, and whether it has as many jobs in hand as it takes at once."""
    connection.execute(
        text("""
            UPDATE workers SET last_heartbeat = now(), state = :state, jobs_done = :jobs_done
            WHERE name = :name
        """),
        {"name": name, "state": "busy" if busy else "idle", "jobs_done": jobs_done},
    )


def sign_off(connection: Connection, name: str) -> None:
    """A worker stops cleanly."""
    connection.execute(
        text("UPDATE workers SET state = 'stopped', last_heartbeat = now() WHERE name = :name"),
        {"name": name},
    )
