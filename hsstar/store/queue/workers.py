"""The rows of workers: who is registered, alive, busy, or asked to stop."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.domain.suggestions import did_you_mean
from hsstar.domain.text import storable
from hsstar.store.database import Database
from hsstar.store.queue.jobs import Job
from hsstar.store.queue.sweeper import SWEEPER_SECONDS
from hsstar.store.queue.wakeups import UNSERVED_SECONDS

_NOTE_CHARACTERS = 1_000
_FRESH_SECONDS = 30  # a worker whose last heartbeat is younger may live
_SILENT_BEATS = 3.25
_BEAT_SECONDS, _LONGEST_BEAT_SECONDS = 2.0, 8.0
_BEATS_PER_SECOND = 125  # of a large fleet
_LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Identity:
    """A worker process; its name belongs to one instance at a time."""

    name: str
    instance: UUID
    host: str
    process: int
    process_space: str  # boot and PID namespace, in which the process id counts


def wait_for_name(database: Database, name: str, process_space: str, is_alive: Callable[[int], bool]) -> None:
    """Return when no other worker of this name lives; raise ConflictError if one does.

    `is_alive` takes a process id of `process_space`. Where its process cannot be seen, as on another host,
    the heartbeats of a worker tell: it is given the time of three.
    """
    started, first = time.monotonic(), None
    while (rival := database.run(partial(_find_rival, name=name))) is not None:
        visible = rival.process_space == process_space
        if visible and not is_alive(rival.process):
            return
        first = first or rival.last_heartbeat
        if visible or rival.last_heartbeat != first:
            raise ConflictError(
                f"a worker named {name!r} is at work on {rival.host} (process {rival.process}); "
                "give this one another name: --name"
            )
        if time.monotonic() > started + _SILENT_BEATS * beat_seconds(rival.workers):
            return
        time.sleep(_LOOK_SECONDS)


def beat_seconds(workers: int) -> float:
    """Return the time between two heartbeats of one of so many workers."""
    return min(max(_BEAT_SECONDS, workers / _BEATS_PER_SECOND), _LONGEST_BEAT_SECONDS)


def _find_rival(connection: Connection, name: str) -> Row[Any] | None:
    """The worker of this name, if it may live."""
    return connection.execute(
        text("""
            SELECT host, process, process_space, last_heartbeat, (SELECT workers FROM sweeper) AS workers
            FROM workers
            WHERE name = :name AND state <> 'stopped'
              AND last_heartbeat > now() - make_interval(secs => :fresh)
        """),
        {"name": name, "fresh": _FRESH_SECONDS},
    ).first()


def register(
    connection: Connection,
    worker: Identity,
    role: str,
    gpu: str | None = None,
    version: str | None = None,
) -> None:
    """Add a worker's row, or replace that of an earlier worker of this name."""
    connection.execute(
        text("""
            INSERT INTO workers (name, instance, host, process, process_space, role, state, gpu, version)
            VALUES (:name, :instance, :host, :process, :process_space, :role, 'idle', :gpu, :version)
            ON CONFLICT (name) DO UPDATE
            SET instance = excluded.instance, host = excluded.host, process = excluded.process,
                process_space = excluded.process_space, role = excluded.role, state = 'idle',
                gpu = excluded.gpu, version = excluded.version, jobs_done = 0, tokens_done = 0,
                started_at = now(), last_heartbeat = now(), note = NULL, noted_at = NULL,
                stop_requested_at = NULL
        """),
        {**asdict(worker), "role": role, "gpu": gpu, "version": version},
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
        meant = did_you_mean(missing[0], known)
        raise NotFoundError(f"no live worker is named {', '.join(missing)}; see: hsstar workers{meant}")
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
class Work:
    """What a worker does at the moment of a heartbeat."""

    busy: bool  # it has as many jobs as it runs at once
    jobs_done: int
    tokens_done: int
    jobs: Sequence[Job]  # whose leases are extended
    still: Sequence[float]  # for how many seconds each of them has got no further
    takes: Sequence[JobKind]  # whose jobs it could take without a message
    may_sweep: bool


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker has to know before it continues."""

    schema: str  # the revision of the database
    stop: bool | None  # it was asked to finish its jobs and end; None: its name belongs to another by now
    sweeps: bool  # it is the sweeper
    workers: int  # how many live
    unserved: bool  # a job that it could take waits so long that its message must be lost


def beat(connection: Connection, worker: Identity, work: Work, lease_seconds: float) -> Orders:
    """Record that a worker lives, extend the leases of its jobs, and return its orders."""
    row = connection.execute(
        text("""
            SELECT * FROM heartbeat(
                :name, :instance, :state, :jobs, :tokens,
                CAST(:held_jobs AS bigint[]), CAST(:held_tokens AS uuid[]), CAST(:held_still AS float[]),
                :lease, CAST(:kinds AS text[]), :unserved, :may_sweep, :sweeper
            )
        """),
        {
            "name": worker.name,
            "instance": worker.instance,
            "state": "busy" if work.busy else "idle",
            "jobs": work.jobs_done,
            "tokens": work.tokens_done,
            "held_jobs": [job.id for job in work.jobs],
            "held_tokens": [job.token for job in work.jobs],
            "held_still": list(work.still),
            "lease": lease_seconds,
            "kinds": [kind.value for kind in work.takes],
            "unserved": UNSERVED_SECONDS,
            "may_sweep": work.may_sweep,
            "sweeper": SWEEPER_SECONDS,
        },
    ).one()
    return Orders(row.schema, row.stop, row.sweeps, row.workers, row.unserved)


def deregister(connection: Connection, name: str, instance: UUID | None = None) -> None:
    """Mark a worker as stopped, unless its name belongs to another instance by now (None: whoever has it)."""
    connection.execute(
        text("""
            UPDATE workers SET state = 'stopped', last_heartbeat = now()
            WHERE name = :name AND instance = coalesce(CAST(:instance AS uuid), instance)
        """),
        {"name": name, "instance": instance},
    )


def forget_old(connection: Connection) -> int:
    """Delete the rows of workers that ended or went silent a week ago; return how many."""
    result = connection.execute(text("DELETE FROM workers WHERE last_heartbeat < now() - interval '7 days'"))
    return result.rowcount
