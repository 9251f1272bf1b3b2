"""What workers say of themselves: who is there, what they do, and that they are alive."""

from collections.abc import Callable

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError
from hsstar.domain.text import storable

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


def enlist(connection: Connection, name: str, host: str, process: int, role: str) -> None:
    """A worker reports for duty; one of the same name that went before it is replaced."""
    connection.execute(
        text("""
            INSERT INTO workers (name, host, process, role, state)
            VALUES (:name, :host, :process, :role, 'idle')
            ON CONFLICT (name) DO UPDATE
            SET host = excluded.host, process = excluded.process, role = excluded.role, state = 'idle',
                jobs_done = 0, started_at = now(), last_heartbeat = now(), note = NULL, noted_at = NULL
        """),
        {"name": name, "host": host, "process": process, "role": role},
    )


def leave_note(connection: Connection, name: str, note: str) -> None:
    """A worker says what went wrong with its engine; the next note or its next start replaces it."""
    connection.execute(
        text("UPDATE workers SET note = :note, noted_at = now() WHERE name = :name"),
        {"name": name, "note": storable(note)[:_NOTE_CHARACTERS]},
    )


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
