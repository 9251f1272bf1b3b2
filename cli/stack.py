"""`hsstar up` and `hsstar down`: the embedded stack of this machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from hsstar.local.placement import ROLES, parse_roles

if TYPE_CHECKING:
    from hsstar.local.stack import Stack
    from hsstar.settings import Settings
    from hsstar.store.database import Database


def parse_workers(_: click.Context, __: click.Parameter, value: str) -> dict[str, int]:
    """Parse `sample=2,score` into workers per role; a role left out gets one worker, beside `all` none."""
    roles = parse_roles(value) if value else {}
    counts = {role: 1 if count is None else count for role, count in roles.items()}
    others = {} if counts.get("all") else dict.fromkeys(ROLES, 1) | {"all": 0}
    return others | counts


@click.command(epilog="Example:  hsstar up --workers sample=2,score=1")
@click.option(
    "--workers",
    default="",
    callback=parse_workers,
    metavar="ROLE[=N],…",
    help="Worker processes per role; one each where left out, none beside all=N, which serves every role.",
)
@click.option(
    "--new-database", is_flag=True, help="Begin with an empty database where that of the home is not found."
)
def up(workers: dict[str, int], new_database: bool) -> None:
    """Start Postgres, a broker and workers on this machine, and say where they are.

    With HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL set, those servers are used and only workers start.
    """
    from hsstar.cli.views.output import console
    from hsstar.local.stack import Stack
    from hsstar.settings import Settings

    stack = Stack(Settings.from_environment())
    start_stack(stack, workers, new_database=new_database)
    status = stack.status()
    for server in status.servers:
        console.print(f"{server.name:9} {server.shown_url}")
    console.print(f"workers   {', '.join(worker.name for worker in status.workers) or 'none'}")
    console.print(f"logs      {status.logs}")
    console.print("stop with hsstar down")


def start_stack(stack: "Stack", workers: dict[str, int], *, new_database: bool = False) -> None:
    """Migrate the database, and start servers and workers; first check what they need."""
    from hsstar.engines.packages import check_role

    stack.check_programs()
    for role, count in workers.items():
        if count:
            check_role(role)

    def prepare(database_url: str) -> None:
        _prepare(database_url, stack)

    stack.up(workers, new_database=new_database, prepare=prepare, role_environment=_thread_counts())


@contextmanager
def own_stack(
    settings: "Settings", workers: dict[str, int], *, keep_up: bool = False
) -> Iterator["Database"]:
    """Start a stack for one command and yield its database; stop it afterwards unless `keep_up`."""
    from hsstar.cli.environment import open_database
    from hsstar.local.stack import Stack

    stack = Stack(settings)
    start_stack(stack, workers)
    try:
        with open_database(settings) as database:
            yield database
    finally:
        if not keep_up:
            stack.down()


def _prepare(database_url: str, stack: "Stack") -> None:
    from hsstar.store import migrate
    from hsstar.store.database import Database

    database = Database(database_url)
    try:
        migrate.upgrade(database)
        if stack.moved_from is not None and stack.postgres in stack.embedded:
            from hsstar.commands.models import move_models

            move_models(database, stack.moved_from, stack.home)
    finally:
        database.close()


def _thread_counts() -> dict[str, dict[str, str]]:
    """Return the threads per role: sampling and scoring run side by side, training runs alone.

    OMP_NUM_THREADS of the environment has priority. Threads must not spin while they wait: with another busy
    process on the machine that made training ten times slower.
    """
    if os.environ.get("OMP_NUM_THREADS"):
        return {role: {"OMP_WAIT_POLICY": "PASSIVE"} for role in ROLES}
    cores = os.cpu_count() or 1
    threads = dict.fromkeys(ROLES, max(1, cores // 2)) | {"verify": 1, "train": cores, "all": cores}
    return {
        role: {"OMP_NUM_THREADS": str(count), "OMP_WAIT_POLICY": "PASSIVE"} for role, count in threads.items()
    }


@click.command(epilog="Example:  hsstar down")
def down() -> None:
    """Stop the workers and servers that `up` started; all data stay, and runs continue at the next `up`."""
    from hsstar.cli.views.output import console
    from hsstar.local.stack import Stack
    from hsstar.settings import Settings

    stack = Stack(Settings.from_environment())
    stack.down()
    console.print(f"hsstar is down; its data stay in {stack.home}")
