"""Retry failed jobs."""

from collections.abc import Sequence

from hsstar.commands.runs import refuse_held
from hsstar.store import runs
from hsstar.store.database import Database, lock_run
from hsstar.store.queue import jobs


def retry_jobs(database: Database, run: str | None, job_ids: Sequence[int]) -> list[int]:
    """Queue failed jobs again with fresh attempts, of one run or these ids where given; return their ids.

    Those of held runs stay as they are.

    Raises:
        HeldError: the run is held.
        NotFoundError: the run is unknown; a named job is unknown, has not failed, or is of a held run.
    """
    with database.begin() as connection:
        if run is None:
            return jobs.retry(connection, None, job_ids)
        stored = runs.find_run(connection, run)
        lock_run(connection, stored.id)
        refuse_held(connection, stored)
        return jobs.retry(connection, stored.id, job_ids)
