"""The database server, and the state of workers and jobs, as the doctor checks them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from hsstar.store.database import execute_file, rows_of


@dataclass(frozen=True, slots=True)
class RecentWorker:
    """A worker with a heartbeat within the last day that has not stopped."""

    worker: str
    role: str
    version: str | None
    lost: bool


@dataclass(frozen=True, slots=True)
class OpenJobs:
    """The jobs of one kind that are not done.

    Attributes:
        open: queued or running.
        expired: running, although their lease ended half a minute ago.
        unserved: queued for more than a minute, while no live worker serves the kind.
        still_seconds: for which a running job has got no further, at most.
    """

    kind: str
    open: int
    failed: int
    expired: int
    unserved: int
    still_seconds: float


def server_version(connection: Connection) -> str:
    """Return the version of Postgres, as it names itself."""
    return str(connection.scalar(text("SHOW server_version")))


def server_time(connection: Connection) -> datetime:
    """Return the time by the server's clock."""
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return now


def recent_workers(connection: Connection) -> list[RecentWorker]:
    """Return the recent workers by name."""
    rows = connection.execute(
        text("""
            SELECT worker, role, version, state = 'lost' AS lost FROM worker_activity
            WHERE state <> 'stopped' AND last_heartbeat > now() - interval '1 day'
            ORDER BY worker
        """)
    )
    return rows_of(rows, RecentWorker)


def open_jobs(connection: Connection) -> list[OpenJobs]:
    """Return the jobs that are not done, by kind."""
    return rows_of(execute_file(connection, "open_jobs", {}), OpenJobs)
