"""`hsstar worker`: workers of this machine in the foreground, one alone or several under a supervisor."""

import os
import socket
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hsstar.local.placement import PlannedWorker
    from hsstar.local.state import WorkerSpec
    from hsstar.settings import Settings


@click.command(epilog="Example:  hsstar worker --role sample=6,score=2 --gpus all")
@click.option(
    "--role",
    required=True,
    metavar="ROLE[=N],…",
    help="The queues to serve: sample, score, verify, train or all; and how many processes of each.",
)
@click.option(
    "--gpus",
    metavar="all|none|0,1,…",
    help="The GPUs to share.  [default: all; `--role ROLE` alone is one process]",
)
@click.option("--name", help="Unique among all workers; of several processes what their names begin with.")
def worker(role: str, gpus: str | None, name: str | None) -> None:
    """Run workers until Ctrl-C or SIGTERM; they finish their jobs first. A second Ctrl-C ends them at once.

    One role on one device is one process. Otherwise each GPU gets its own process with its own log, and a
    process that dies is started again. verify needs no GPU.

    They serve the queues of their roles on the servers of HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL, else on
    the embedded ones of `hsstar up`.
    """
    from hsstar.cli.environment import open_database
    from hsstar.commands.connection import connected_settings
    from hsstar.engines.packages import check_role
    from hsstar.local.placement import parse_roles
    from hsstar.settings import Settings, secret_environment

    counts = parse_roles(role)
    for each in counts:
        check_role(each)
    settings = Settings.from_environment()
    planned = None if gpus is None and [*counts.values()] == [None] else _plan(counts, gpus, settings)
    with open_database(settings):
        pass  # refuses a missing database or a schema that does not fit, in one line
    settings = connected_settings(settings, broker=True)
    servers = secret_environment("HSSTAR_DATABASE_URL", settings.database_url) | secret_environment(
        "HSSTAR_BROKER_URL", settings.broker_url
    )
    if planned is None:
        (only_role,) = counts
        _become(only_role, name, servers)
    elif len(planned) == 1:
        _become(planned[0].role, name, servers | _environment(planned[0], planned))
    else:
        _supervise(settings, [_specify(worker, planned, name, servers) for worker in planned])


def _plan(
    counts: "dict[str, int | None]", gpus: str | None, settings: "Settings"
) -> "tuple[PlannedWorker, ...]":
    from hsstar.local.gpus import find_gpus
    from hsstar.local.placement import choose_gpus, plan_workers

    gpus_each = dict.fromkeys(("train", "all"), settings.train_processes)
    return plan_workers(counts, choose_gpus(gpus or "all", find_gpus(os.environ)), gpus_each)


def _environment(planned: "PlannedWorker", beside: "tuple[PlannedWorker, ...]") -> dict[str, str]:
    """The environment of one process; those that compute share the cores."""
    computing = sum(worker.role != "verify" for worker in beside)
    threads = 1 if planned.role == "verify" else max(1, (os.cpu_count() or 1) // computing)
    return planned.environment(os.environ, threads)


def _command(role: str, name: str | None) -> list[str]:
    from hsstar.local.processes import python_module

    return python_module("hsstar.workers", "--role", role, *(["--name", name] if name else []))


def _become(role: str, name: str | None, environment: dict[str, str]) -> None:
    os.execve(sys.executable, _command(role, name), os.environ | environment)  # noqa: S606  # no shell


def _specify(
    planned: "PlannedWorker", beside: "tuple[PlannedWorker, ...]", name: str | None, servers: dict[str, str]
) -> "WorkerSpec":
    from hsstar.local.state import WorkerSpec

    full_name = f"{f'{name}-' if name else ''}{planned.name}@{socket.gethostname()}"
    environment = servers | _environment(planned, beside)
    return WorkerSpec(full_name, planned.role, tuple(_command(planned.role, full_name)), environment)


def _supervise(settings: "Settings", workers: "list[WorkerSpec]") -> None:
    import logging
    from pathlib import Path

    import psutil

    from hsstar.cli.environment import open_database
    from hsstar.cli.views.output import console
    from hsstar.commands.workers import check_names_are_free, release_workers
    from hsstar.domain.errors import DatabaseError
    from hsstar.local.supervisor import keep_running

    names = [worker.name for worker in workers]
    with open_database(settings) as database:
        check_names_are_free(database, names, psutil.pid_exists)
    logs = settings.home / "logs"
    for worker in workers:
        gpus = worker.environment["CUDA_VISIBLE_DEVICES"]
        console.print(f"{worker.name}  {f'GPU {gpus}' if gpus else 'CPU'}  {logs / f'{worker.name}.log'}")
    console.print("stop with Ctrl-C; a second one ends the workers at once")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    clean = keep_running(workers, logs, Path.cwd())
    try:
        with open_database(settings, check_schema=False) as database:
            release_workers(database, names, settings.max_attempts)
    except DatabaseError as error:
        logging.getLogger("hsstar.supervisor").warning("the workers stay registered: %s", error)
    sys.exit(0 if clean else 130)
