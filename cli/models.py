"""`hsstar models`: policy checkpoints."""

import click

from cli.environment import open_database


@click.group(epilog="Example:  hsstar models list")
def models() -> None:
    """Register and list policy checkpoints."""


@models.command(epilog="Example:  hsstar models add M0 ./checkpoints/qwen2.5-7b-m0")
@click.argument("name")
@click.argument("location")
def add(name: str, location: str) -> None:
    """Register the checkpoint at LOCATION (a folder or a Hugging Face name) under NAME."""
    from hsstar import commands

    with open_database() as database:
        model = commands.add_model(database, name, location)
    click.echo(f"{model.name}: {model.location}")


@models.command("list", epilog="Example:  hsstar models list")
def list_() -> None:
    """List the checkpoints, oldest first, each with the one that it was trained from."""
    from cli.output import print_table
    from hsstar.store import models as stored

    with open_database() as database, database.begin() as connection:
        found = stored.list_models(connection)
    print_table(
        ("model", "trained from", "location"), [(model.name, model.parent, model.location) for model in found]
    )
