"""The reference: Procrastinate, a job queue on Postgres alone, with a job that does nothing.

python -m bench.queue_reference URL CONCURRENCY    runs its worker until SIGTERM
"""

import sys

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector

TASK = "nothing"


def nothing() -> None:
    """Does nothing."""


def enqueue(url: str, jobs: int) -> None:
    """Defers so many jobs at once."""
    app = App(connector=SyncPsycopgConnector(conninfo=url))
    task = app.task(name=TASK)(nothing)
    with app.open():
        task.batch_defer(*[{}] * jobs)


def make_schema(url: str) -> None:
    """Makes Procrastinate's tables."""
    with App(connector=SyncPsycopgConnector(conninfo=url)).open() as app:
        app.schema_manager.apply_schema()


def unfinished(url: str) -> int:
    """Jobs that are not done."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def take_seconds(url: str) -> float:
    """Seconds from the first start to the last end of the jobs that are there; then they are deleted."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT extract(epoch FROM max(at) FILTER (WHERE type = 'succeeded')"
            " - min(at) FILTER (WHERE type = 'started')) FROM procrastinate_events"
        ).fetchone()
        connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")
    assert row is not None
    return float(row[0])


def main() -> None:
    """Runs one worker."""
    url, concurrency = sys.argv[1], int(sys.argv[2])
    app = App(connector=PsycopgConnector(conninfo=url))
    app.task(name=TASK)(nothing)
    app.run_worker(concurrency=concurrency)


if __name__ == "__main__":
    main()
