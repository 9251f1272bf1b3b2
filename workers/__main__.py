"""`python -m hsstar.workers --role ROLE`: one worker in the foreground, until SIGTERM or Ctrl-C."""

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from hsstar.broker import BrokerAddress
from hsstar.domain.errors import BadInputError, DrainedError, HsstarError, SchemaError
from hsstar.domain.lifecycle import JobKind, WorkerExit
from hsstar.engines.heap import share_one_heap
from hsstar.settings import Settings
from hsstar.store import models
from hsstar.store.database import Database, Limits

log = logging.getLogger("hsstar.worker")

if TYPE_CHECKING:
    from celery import Celery

    from hsstar.stages.context import WorkerContext
    from hsstar.workers.runtime import Worker

ROLES = (*(kind.value for kind in JobKind), "all")


def main() -> None:
    """Read the command line and the environment, then work until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m hsstar.workers", description=__doc__)
    parser.add_argument("--role", required=True, choices=ROLES, help="which jobs to run")
    parser.add_argument("--name", help="unique among all workers; default: ROLE-PID@HOST")
    arguments = parser.parse_args()
    try:
        name = arguments.name or f"{arguments.role}-{os.getpid()}@{socket.gethostname()}"
        sys.exit(work(arguments.role, name))
    except HsstarError as error:
        print(f"hsstar worker: {error}", file=sys.stderr)
        codes = {SchemaError: WorkerExit.WRONG_SCHEMA, DrainedError: WorkerExit.DRAINED}
        sys.exit(codes.get(type(error), WorkerExit.FAILED))


def work(
    role: str, name: str, context_of: "Callable[[Settings, Database, str], WorkerContext] | None" = None
) -> int:
    """Work until told to stop, by default with hsstar's own engines; return the exit code."""
    if role in ("train", "all"):
        share_one_heap()  # before any thread starts
    settings = Settings.from_environment()
    if settings.database_url is None or settings.broker_url is None:
        raise BadInputError(
            "a worker needs HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL; "
            "`hsstar worker` finds the embedded ones"
        )
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {name}: %(message)s"
    )
    broker = BrokerAddress.parse(settings.broker_url, settings.broker_ca)
    database = Database(settings.database_url, Limits.of_worker(settings.lease_seconds))
    database.check_schema()
    # These imports take seconds, so every check that can fail comes first.
    from celery.signals import worker_shutting_down

    from hsstar.engines.registry import import_engines
    from hsstar.workers.app import make_app
    from hsstar.workers.broker_watch import BrokerWatch
    from hsstar.workers.context import make_context, note_taker
    from hsstar.workers.messages import TASK
    from hsstar.workers.runtime import Worker

    roles = list(JobKind) if role == "all" else [JobKind(role)]
    with database.begin() as connection:
        database_id = models.database_id(connection)
    app = make_app(database_id, settings.broker_url, settings.broker_ca)
    context = (context_of or make_context)(settings, database, name)
    watch = BrokerWatch(app, broker, note_taker(database, name))
    worker = Worker(name, roles, settings, context, app, watch.look)
    app.task(worker.run_job, name=TASK)
    worker_shutting_down.connect(lambda **_: worker.leave(), weak=False)  # else it takes the next job

    def end(*_: object) -> None:
        worker.leave()
        raise SystemExit

    for number in (signal.SIGTERM, signal.SIGINT):  # Celery's own handlers come seconds later
        signal.signal(number, end)
    worker.start()
    celery_code = 0
    try:
        for kind in roles if context_of is None else ():
            import_engines(kind)
        worker.background.start_polling()
        if worker.leaving:
            raise SystemExit
        celery_code = _take_messages(app, worker, roles, settings.log_level)
        if celery_code:  # Celery does not repeat this, such as a refused login
            watch.explain()
    except SystemExit:
        log.info("told to end")
    finally:
        worker.stop()
    return worker.exit_code or celery_code


def _take_messages(app: "Celery", worker: "Worker", roles: list[JobKind], log_level: str) -> int:
    from hsstar.workers.messages import queue_name

    celery = app.Worker(
        hostname=worker.name,
        queues=[queue_name(app, kind) for kind in roles],
        pool="threads",
        concurrency=worker.jobs_at_once,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel=log_level,
        quiet=True,
    )
    celery.start()
    return 0 if worker.leaving else int(celery.exitcode or 0)  # to Celery Ctrl-C is a failure


if __name__ == "__main__":
    main()
