"""The rows of workers: who is registered, alive, busy, or asked to stop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.text import storable
from hsstar.store.database import SCHEMA_REVISION

_NOTE_CHARACTERS = 1_000
_FRESH_SECONDS = 30  # a worker whose last heartbeat is younger may live


def check_name_is_free(connection: Connection, name: str, host: str, living: Callable[[int], bool]) -> None:
    """Raise ConflictError if another worker of this name may live.

    `host` is the new worker's; `living` tells whether a pid of this host is in use.
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


def register(
    connection: Connection,
    name: str,
    host: str,
    process: int,
    role: str,
    gpu: str | None = None,
    version: str | None = None,
) -> None:
    """Add a worker's row, or replace that of an earlier worker of this name."""
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
    """Tell whether a worker of this name was asked to stop and died in the last minute instead."""
    draining = connection.scalar(
        text("""
            SELECT true FROM workers
            WHERE name = :name AND stop_requested_at IS NOT NULL AND state <> 'stopped'
              AND last_heartbeat > now() - interval '1 minute'
        """),
        {"name": name},
    )
    return draining is not None


def request_stop(
    connection: Connection, names: Sequence[str], roles: Sequence[str], *, everyone: bool
) -> list[str]:
    """Ask live workers to finish their jobs and end; return their names.

    A name may lack its `@host`. A role names all queues of a worker, comma-separated as in `workers.role`.
    Raise NotFoundError if no live worker has a given name or role.
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


def set_note(connection: Connection, name: str, note: str) -> None:
    """Store what went wrong with a worker's engine, until its next note or start."""
    connection.execute(
        text("UPDATE workers SET note = :note, noted_at = now() WHERE name = :name"),
        {"name": name, "note": storable(note)[:_NOTE_CHARACTERS]},
    )


@dataclass(frozen=True, slots=True)
class Control:
    """What a worker has to know before it continues."""

    schema: str  # the revision of the database
    stop: bool  # it was asked to finish its jobs and end


def read_control(connection: Connection, name: str) -> Control:
    """Read the control of a worker without waiting for any lock."""
    row = connection.execute(
        text("""
            SELECT (SELECT version_num FROM alembic_version) AS schema, stop_requested_at IS NOT NULL AS stop
            FROM workers WHERE name = :name
        """),
        {"name": name},
    ).first()
    return Control(SCHEMA_REVISION, stop=False) if row is None else Control(row.schema, row.stop)


def heartbeat(connection: Connection, name: str, *, busy: bool, jobs_done: int) -> None:
    """Record that a worker lives, and whether it has as many jobs as it runs at once."""
    connection.execute(
        text("""
            UPDATE workers SET last_heartbeat = now(), state = :state, jobs_done = :jobs_done
            WHERE name = :name
        """),
        {"name": name, "state": "busy" if busy else "idle", "jobs_done": jobs_done},
    )


def deregister(connection: Connection, name: str) -> None:
    """Mark a worker as stopped."""
    connection.execute(
        text("UPDATE workers SET state = 'stopped', last_heartbeat = now() WHERE name = :name"),
        {"name": name},
    )
