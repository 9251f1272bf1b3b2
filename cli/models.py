"""`hsstar models`: policy checkpoints."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database


@click.group(epilog="Example:  hsstar models list")
def models() -> None:
    """Register, list and export policy checkpoints."""


@models.command(epilog="Example:  hsstar models add M0 ./checkpoints/qwen2.5-7b-m0")
@click.argument("name")
@click.argument("location")
def add(name: str, location: str) -> None:
    """Register the checkpoint at LOCATION (a folder or a Hugging Face name) under NAME."""
    from hsstar.commands.models import add_model

    with open_database() as database:
        model = add_model(database, name, location)
    click.echo(f"{model.name}: {model.location}")


@models.command("list", epilog="Example:  hsstar models list")
def list_() -> None:
    """List the checkpoints, oldest first, each with the one that it was trained from."""
    from hsstar.cli.views.output import print_table
    from hsstar.store import models as stored

    with open_database() as database, database.begin() as connection:
        found = stored.list_models(connection)
    print_table(
        ("model", "trained from", "location"), [(model.name, model.parent, model.location) for model in found]
    )


@models.command(epilog="Example:  hsstar models lineage demo-M2")
@click.argument("name", required=False)
def lineage(name: str | None) -> None:
    """Show how policies descend from one another: run, data and held-out accuracy of each.

    With NAME its ancestors, itself, and what was trained from it.
    """
    from hsstar.cli.views.output import print_table
    from hsstar.store.read.lineage import lineage as find_lineage

    with open_database() as database, database.begin() as connection:
        found = find_lineage(connection, name)
    print_table(
        ("model", "run", "iteration", "trained by", "on", "steps", "held-out accuracy"),
        [
            (
                "  " * entry.depth + ("→ " if entry.depth else "") + entry.name,
                entry.run,
                entry.iteration,
                entry.objective,
                entry.objective and f"{entry.items} {'pairs' if entry.objective == 'dpo' else 'samples'}",
                entry.steps,
                ", ".join(map(str, entry.scores)) or None,
            )
            for entry in found
        ],
    )


@models.command(epilog="Example:  hsstar models export demo-M2 ./demo-M2")
@click.argument("name")
@click.argument("folder", type=click.Path(path_type=Path))
def export(name: str, folder: Path) -> None:
    """Copy the checkpoint NAME into FOLDER, with a README that says how it came to be."""
    from hsstar.commands.export_model import export_model

    with open_database() as database:
        target = export_model(database, name, folder)
    click.echo(f"{name}: {target}")
