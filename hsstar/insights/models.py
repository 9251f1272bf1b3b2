"""Policies: those that are registered, and how they descend from one another."""

from dataclasses import dataclass

from hsstar.checkpoints.card import Score
from hsstar.store import models
from hsstar.store.database import Database
from hsstar.store.read import lineage


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """A policy as a list of policies shows it."""

    model: str
    trained_from: str | None
    location: str


def list_models(database: Database) -> list[PolicyEntry]:
    """Return every policy, oldest first."""
    with database.begin() as connection:
        return [PolicyEntry(row.name, row.parent, row.location) for row in models.list_models(connection)]


@dataclass(frozen=True, slots=True)
class Descendant:
    """A policy in a family tree; what concerns training is None where it was registered as it is."""

    model: str
    depth: int  # trainings between it and the first policy of its line
    trained_from: str | None
    run: str | None
    iteration: int | None
    trained_by: str | None  # `dpo` on preference pairs, or `sft` on samples
    items: int | None  # how many of these
    steps: int | None  # optimiser steps
    held_out_accuracy: tuple[Score, ...]
    sampled_as: str | None  # number format
    update_norm: float | None  # of all weights
    update_kept: float | None  # share of the update that is there in that format
    warning: str | None  # if little is
    base: str | None  # location of the whole checkpoint that its adapter needs


def find_lineage(database: Database, name: str | None) -> list[Descendant]:
    """Return every policy behind its parent; with a name its ancestors, itself and its descendants."""
    with database.begin() as connection:
        rows = lineage.lineage(connection, name)
    return [
        Descendant(
            row.name, row.depth, row.parent, row.run, row.iteration, row.objective, row.items, row.steps,
            tuple(row.scores),
            row.update.sampled_as,
            row.update.norm,
            row.update.kept(row.update.sampled_as),
            row.update.warning,
            row.base,
        )
        for row in rows
    ]  # fmt: skip


def rounding_warnings(database: Database, run: str) -> list[str]:
    """Return a line for each policy of a run whose training is mostly lost where it is sampled."""
    with database.begin() as connection:
        updates = lineage.sampled_updates(connection, run)
    return [f"{model}: {update.warning}" for model, update in updates.items() if update.warning]
