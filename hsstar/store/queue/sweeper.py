"""The sweeper: the one worker that looks after all jobs, and for how long it has to be patient."""

from uuid import UUID

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file

SWEEPER_SECONDS = 3.0
"""How long a sweeper keeps its place after its last heartbeat."""
_SHORTEST_GAP_SECONDS = 5.0  # there are two sweeps a second


def begin_sweep(connection: Connection, lease_seconds: float) -> bool:
    """Record a sweep; return whether jobs whose lease has expired may be taken from their workers.

    They may not for one lease after a gap: if nobody has swept for so long, the machine was suspended, the
    database was away or its clock was set, so living workers could not extend their leases either.
    """
    values = {"gap": max(lease_seconds, _SHORTEST_GAP_SECONDS), "lease": lease_seconds}
    row = execute_file(connection, "begin_sweep", values).one()
    if row.set_back:
        _bring_near(connection, lease_seconds)
    return bool(row.takes_back)


def _bring_near(connection: Connection, lease_seconds: float) -> None:
    """Let nothing wait until the clock, which was set back, is where it was."""
    connection.execute(
        text("""
            UPDATE jobs
            SET lease_expires_at = CASE
                    WHEN state = 'running'
                    THEN least(lease_expires_at, now() + make_interval(secs => :lease))
                END,
                available_at = least(available_at, now()), wakeup_sent_at = NULL
            WHERE state IN ('queued', 'running')
        """),
        {"lease": lease_seconds},
    )


def leave(connection: Connection, instance: UUID) -> None:
    """Make place for another sweeper."""
    connection.execute(
        text("UPDATE sweeper SET until = now() WHERE instance = :instance"), {"instance": instance}
    )
