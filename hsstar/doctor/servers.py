"""Probe the database and the broker, and the work in them."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from hsstar import __version__
from hsstar.broker import BrokerAddress
from hsstar.domain.findings import Finding, Level
from hsstar.insights.notifications import unsent_line
from hsstar.insights.progress import STILL_SECONDS
from hsstar.store import counts, notifications
from hsstar.store.database import SCHEMA_REVISION, Database, Limits
from hsstar.store.read import health
from hsstar.store.reader_role import HOW_TO_MAKE, READER, guard

_LIMITS = Limits(statement=5.0, lock=5.0, idle=10.0)
_SKEW_SECONDS = 5.0


def check_broker(locate: Callable[[], str], authority: Path | None) -> Iterator[Finding]:
    """Log in to the broker."""
    yield Finding(Level.OK, "broker", BrokerAddress.parse(locate(), authority).check())


def check_database(locate: Callable[[], str]) -> Iterator[Finding]:
    """Look at the database, its schema, clock and guards, then at its workers and jobs."""
    with closing(Database(locate(), _LIMITS)) as database:
        with database.begin() as connection:
            version = health.server_version(connection)
            yield Finding(Level.OK, "database", f"Postgres {version} answers at {database.shown_url}")
            yield _clock(connection)
            yield _reader(connection)
        database.check_schema()
        yield Finding(Level.OK, "schema", f"revision {SCHEMA_REVISION}, as this hsstar needs it")
        with database.begin() as connection:
            yield from _workers(connection)
            yield from _jobs(connection)
            yield from _notifications(connection)
        with database.begin() as connection:
            yield from _counts(connection)


def _clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    database_time = health.server_time(connection)
    after = datetime.now(UTC)
    skew = (database_time - (before + (after - before) / 2)).total_seconds()
    level = Level.OK if abs(skew) <= _SKEW_SECONDS else Level.WARN
    direction = "ahead of" if skew > 0 else "behind"
    skewed = f"the database is {abs(skew):.1f} s {direction} this host (leases go by the database)"
    return Finding(level, "clock", skewed)


def _reader(connection: Connection) -> Finding:
    guards = guard(connection)
    if guards.powerful:
        return Finding(
            Level.WARN,
            "sql guard",
            f"{guards.login!r} is a superuser or may use the server's files, so hsstar sql refuses; "
            "give hsstar a role of its own",
        )
    if not guards.reader:
        missing = f"hsstar sql is guarded by its read-only transaction alone; {HOW_TO_MAKE}"
        return Finding(Level.WARN, "sql guard", missing)
    return Finding(Level.OK, "sql guard", f"hsstar sql runs read-only and as {READER}")


def _workers(connection: Connection) -> Iterator[Finding]:
    workers = health.recent_workers(connection)
    live = [row for row in workers if not row.lost]
    by_role = Counter(row.role for row in live)
    counts = ", ".join(f"{count} {role}" for role, count in sorted(by_role.items()))
    yield Finding(
        Level.OK if live else Level.WARN, "workers", counts or "none is at work; start some: hsstar up"
    )
    if others := [f"{row.worker} ({row.version or 'unknown'})" for row in live if row.version != __version__]:
        yield Finding(
            Level.WARN, "worker versions", f"other versions than {__version__}: {', '.join(others)}"
        )
    if lost := [row.worker for row in workers if row.lost]:
        yield Finding(Level.WARN, "lost workers", f"no heartbeat for a minute: {', '.join(lost)}")


def _counts(connection: Connection) -> Iterator[Finding]:
    rounds = counts.drifted(connection)
    if rounds:
        counts.recount(connection, rounds)
        yield Finding(Level.WARN, "counters", f"wrong in {len(rounds)} rounds; they are counted again")
    else:
        yield Finding(Level.OK, "counters", "those of unfinished rounds agree with their samples")


def _jobs(connection: Connection) -> Iterator[Finding]:
    rows = health.open_jobs(connection)
    troubles = []
    for row in rows:
        if row.failed:
            troubles.append(f"{row.failed} {row.kind} failed (hsstar jobs list --state failed)")
        if row.expired:
            troubles.append(
                f"{row.expired} {row.kind} running with an expired lease: no live worker takes it back"
            )
        if row.still_seconds > STILL_SECONDS:
            troubles.append(f"no progress for {row.still_seconds:,.0f} s in a running {row.kind} job")
        if row.unserved:
            troubles.append(
                f"{row.unserved} {row.kind} waiting for more than a minute, and no live worker serves "
                f"{row.kind} (hsstar worker --role {row.kind})"
            )
    for trouble in troubles:
        yield Finding(Level.WARN, "jobs", trouble)
    if not troubles:
        yield Finding(Level.OK, "jobs", f"{sum(row.open for row in rows)} open, none stuck")


def _notifications(connection: Connection) -> Iterator[Finding]:
    for row in notifications.count_unsent(connection):
        yield Finding(Level.WARN, "notifications", unsent_line(row))
