"""`python -m workers --role ROLE`: one worker in the foreground, until SIGTERM or Ctrl-C."""

import argparse
import logging
import os
import socket
import sys

from hsstar.domain.errors import BadInputError, HsstarError
from hsstar.domain.lifecycle import JobKind
from hsstar.settings import Settings

ROLES = (*(kind.value for kind in JobKind), "all")


def main() -> None:
    """Reads the command line and the environment, then works until it is told to stop."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    parser.add_argument("--role", required=True, choices=ROLES, help="which jobs to run")
    parser.add_argument("--name", help="unique among all workers; ROLE-PID@HOST where left out")
    arguments = parser.parse_args()
    try:
        _work(arguments.role, arguments.name or f"{arguments.role}-{os.getpid()}@{socket.gethostname()}")
    except HsstarError as error:
        sys.exit(f"hsstar worker: {error}")


def _work(role: str, name: str) -> None:
    settings = Settings.from_environment()
    logging.basicConfig(
        level=settings.log_level.upper(), format=f"%(asctime)s %(levelname)s {name}: %(message)s"
    )
    if settings.database_url is None or settings.broker_url is None:
        raise BadInputError(
            "a worker needs HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL; "
            "`hsstar worker` finds the embedded ones"
        )
    # Imports that cost seconds come after everything that can be refused at once.
    from celery.signals import worker_shutting_down

    from hsstar.engines.registry import import_engines
    from workers.app import TASK, make_app
    from workers.runtime import Worker
    from workers.workshop import make_workshop

    roles = list(JobKind) if role == "all" else [JobKind(role)]
    app = make_app(settings.broker_url)
    workshop = make_workshop(settings, settings.database_url, name)
    workshop.database.check_schema()
    worker = Worker(name, roles, settings, workshop, app)
    app.task(worker.run_job, name=TASK)
    worker_shutting_down.connect(lambda **_: worker.leave(), weak=False)  # else it would take the next job
    worker.start()
    try:
        for kind in roles:
            import_engines(kind)
        app.Worker(
            hostname=name,
            queues=[kind.value for kind in roles],
            pool="threads",
            concurrency=worker.jobs_at_once,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            loglevel=settings.log_level,
            quiet=True,
        ).start()
    finally:
        worker.stop()


if __name__ == "__main__":
    main()
