"""The reference: Procrastinate, a job queue on Postgres alone, with a job that does nothing.

python -m bench.queue_reference URL CONCURRENCY    runs its worker until SIGTERM
"""

import os
import subprocess
import sys

import psycopg
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from sqlalchemy import make_url

from bench.queue_setup import ended, wait_for
from hsstar.store.database import Database

TASK = "nothing"


def nothing() -> None:
    """Do nothing."""


class Reference:
    """Procrastinate in a database of its own on the same server."""

    def __init__(self, database: Database) -> None:
        url = make_url(database.url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as connection:
            connection.execute("CREATE DATABASE reference")
        self._url = url.set(database="reference").render_as_string(hide_password=False)
        with self._app().open() as app:
            app.schema_manager.apply_schema()

    def empty_jobs(self, number: int, concurrency: int) -> float:
        """Return the seconds from the first start to the last end of jobs in one worker process."""
        with self._app().open() as app:
            app.task(name=TASK)(nothing).batch_defer(*[{}] * number)
        command = [sys.executable, "-m", "bench.queue_reference", self._url, str(concurrency)]
        unfinished = "SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'"
        with ended(command, dict(os.environ), subprocess.DEVNULL):
            wait_for(lambda: not self._figure(unfinished), "Procrastinate", 0.5)
        taken = self._figure(
            "SELECT extract(epoch FROM max(at) FILTER (WHERE type = 'succeeded')"
            " - min(at) FILTER (WHERE type = 'started')) FROM procrastinate_events"
        )
        with psycopg.connect(self._url) as connection:
            connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")
        return taken

    def _app(self) -> App:
        return App(connector=SyncPsycopgConnector(conninfo=self._url))

    def _figure(self, query: str) -> float:
        with psycopg.connect(self._url) as connection:
            row = connection.execute(query.encode()).fetchone()
        assert row is not None
        return float(row[0])


def main() -> None:
    """Run one worker."""
    url, concurrency = sys.argv[1], int(sys.argv[2])
    app = App(connector=PsycopgConnector(conninfo=url))
    app.task(name=TASK)(nothing)
    app.run_worker(concurrency=concurrency)


if __name__ == "__main__":
    main()
