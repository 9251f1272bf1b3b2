"""`hsstar worker`: one worker in the foreground."""

import os
import sys

import click

ROLES = ("sample", "score", "verify", "train", "all")


@click.command(epilog="Example:  hsstar worker --role sample")
@click.option("--role", type=click.Choice(ROLES), required=True, help="The queues to serve.")
@click.option("--name", help="Unique among all workers; ROLE-PID@HOST where left out.")
def worker(role: str, name: str | None) -> None:
    """Run one worker until Ctrl-C or SIGTERM. Start as many as there is hardware for.

    It serves the queues of its role on the servers that HSSTAR_DATABASE_URL and HSSTAR_BROKER_URL name,
    else on the embedded ones of `hsstar up`.
    """
    from cli.environment import connected_settings, open_database
    from hsstar.settings import Settings

    with open_database():
        pass  # refuses a missing database or a schema that does not fit, in one line
    settings = connected_settings(Settings.from_environment(), broker=True)
    command = [sys.executable, "-m", "workers", "--role", role, *(["--name", name] if name else [])]
    environment = os.environ | {
        "HSSTAR_DATABASE_URL": settings.database_url or "",
        "HSSTAR_BROKER_URL": settings.broker_url or "",
    }
    os.execve(sys.executable, command, environment)  # noqa: S606  # becomes the worker: no shell
