"""Ask workers to stop, and register what a supervisor starts and ends."""

import time
from collections.abc import Callable, Sequence

from hsstar.domain.lifecycle import JobKind
from hsstar.local.holders import Holder
from hsstar.store.database import Database
from hsstar.store.queue.jobs import has_running, reclaim_of
from hsstar.store.queue.workers import deregister, request_stop, wait_for_name

_LOCKED_SECONDS = 5.0
"""How long Postgres may take to see that a killed worker is gone, whose last transaction locks its jobs."""


def stop_workers(
    database: Database, names: Sequence[str], roles: Sequence[str], *, everyone: bool
) -> list[str]:
    """Ask live workers to finish their jobs and to end; return their names.

    `names` may leave out `@host`; the role `all` means workers that serve every queue. Raise NotFoundError
    if no live worker has a name or a role.
    """
    queues = [",".join(JobKind) if role == "all" else role for role in roles]
    with database.begin() as connection:
        return request_stop(connection, names, queues, everyone=everyone)


def check_names_are_free(database: Database, names: Sequence[str], is_alive: Callable[[int], bool]) -> None:
    """Raise ConflictError if a live worker has one of the names; `is_alive` takes a process id."""
    for name in names:
        wait_for_name(database, name, Holder.now().process_space, is_alive)


def release_workers(database: Database, names: Sequence[str], max_attempts: int) -> None:
    """Put the jobs of workers that have ended back into the queue, and mark the workers as stopped."""
    for name in names:
        latest = time.monotonic() + _LOCKED_SECONDS
        while True:
            with database.begin() as connection:
                reclaim_of(connection, name, max_attempts)
                deregister(connection, name)
                remain = has_running(connection, name)
            if not remain or time.monotonic() > latest:
                break
            time.sleep(0.1)
