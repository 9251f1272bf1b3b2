"""Retry failed jobs."""

from collections.abc import Sequence

from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.queue import jobs


def retry_jobs(database: Database, run: str | None, job_ids: Sequence[int]) -> list[int]:
    """Queue failed jobs again with fresh attempts, of one run or these ids where given; return their ids.

    Raise NotFoundError without the run, or if a named job does not exist or has not failed.
    """
    with database.begin() as connection:
        run_id = None if run is None else runs.find_run(connection, run).id
        return jobs.retry(connection, run_id, job_ids)
