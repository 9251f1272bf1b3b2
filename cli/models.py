"""`hsstar models`: policy checkpoints."""

from pathlib import Path

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import MODEL
from hsstar.cli.options import FilePath, Format, formatted
from hsstar.cli.text import say

_ITEMS = {"dpo": "pairs", "kto": "samples", "sft": "samples"}


@click.group(epilog="Example:  hsstar models list")
def models() -> None:
    """Register, list, export and prune policy checkpoints."""


@models.command(epilog="Example:  hsstar models add M0 ./checkpoints/qwen2.5-7b-m0")
@click.argument("name")
@click.argument("location")
def add(name: str, location: str) -> None:
    """Register the checkpoint at LOCATION (a folder or a Hugging Face name) under NAME."""
    from hsstar.commands.models import add_model

    with open_database() as database:
        model = add_model(database, name, location)
    say(f"{model.name}: {model.location}")


@models.command("list", epilog="Example:  hsstar models list")
@formatted
def list_(shown_as: Format) -> None:
    """List the checkpoints, oldest first, each with the one that it was trained from."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.models import PolicyEntry, list_models

    with open_database() as database:
        show_list(PolicyEntry, list_models(database), shown_as)


@models.command(epilog="Example:  hsstar models lineage demo-M2")
@click.argument("name", required=False, type=MODEL)
@formatted
def lineage(name: str | None, shown_as: Format) -> None:
    """Show how policies descend from one another: run, data, weight update and held-out accuracy of each.

    The update is its norm, and how much of it the number format keeps that the run samples in.
    With NAME: its ancestors, itself, and the policies trained from it.
    """
    from hsstar.cli.views.output import Columns, console, show_list
    from hsstar.insights.models import Descendant, find_lineage

    with open_database() as database:
        entries = find_lineage(database, name)
    columns: Columns[Descendant] = {
        "model": lambda entry: "  " * entry.depth + ("→ " if entry.depth else "") + entry.model,
        "run": "run",
        "iteration": "iteration",
        "trained by": lambda entry: (
            entry.trained_by and entry.trained_by + (" (adapter)" if entry.base else "")
        ),
        "on": lambda entry: entry.trained_by and f"{entry.items} {_ITEMS[entry.trained_by]}",
        "steps": "steps",
        "update": "update_norm",
        "kept": lambda entry: entry.update_kept and f"{entry.update_kept:.0%} in {entry.sampled_as}",
        "held-out accuracy": "held_out_accuracy",
    }
    show_list(Descendant, entries, shown_as, columns)
    if shown_as == "table":
        for entry in entries:
            if entry.warning:
                console.print(f"{entry.model}: {entry.warning}")


@models.command(epilog="Example:  hsstar models export demo-M2 ./demo-M2")
@click.argument("name", type=MODEL)
@click.argument("folder", type=FilePath())
def export(name: str, folder: Path) -> None:
    """Copy the checkpoint NAME into FOLDER, with a README on its origin.

    An adapter is merged into its base.
    """
    from hsstar.commands.export_model import export_model

    with open_database() as database:
        target = export_model(database, name, folder)
    say(f"{name}: {target}")


@models.command(epilog="Example:  hsstar models prune --dry-run")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(dry_run: bool, yes: bool) -> None:
    """Delete the checkpoints of trained policies that no run, fork, evaluation or untrained pair needs.

    A run needs the policy that it begins with and its last one. Scores and lineage of the others stay.
    """
    from hsstar.cli.views.output import Columns, show_list, size
    from hsstar.commands.prune_models import PolicyFolder, list_folders, prune_models

    columns: Columns[PolicyFolder] = {
        "policy": "model", "size": lambda policy: size(policy.bytes),
        "needed": lambda policy: policy.needed_by or "no", "folder": "folder",
    }  # fmt: skip
    with open_database() as database:
        folders = list_folders(database)
        if folders:
            show_list(PolicyFolder, folders, "table", columns)
        going = [policy for policy in folders if policy.needed_by is None]
        freed = size(sum(policy.bytes for policy in going))
        if dry_run or not going:
            say(f"{len(going)} checkpoints can go: {freed}")
            return
        if not yes:
            click.confirm(f"Delete {len(going)} checkpoints ({freed})?", abort=True)
        pruned = prune_models(database)
    say(f"{len(pruned)} checkpoints deleted: {size(sum(policy.bytes for policy in pruned))}")
