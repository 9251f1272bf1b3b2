"""Runs: a recipe under a name. A run is never changed after it is made."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.recipe.recipe import Recipe, parse_recipe


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its recipe and the models it starts from."""

    id: int
    name: str
    recipe: Recipe
    model_id: int
    reward_model_id: int | None
    created_at: datetime


_RUNS = "SELECT id, name, recipe, model_id, reward_model_id, created_at FROM runs"


def _run(row: Row[*tuple[Any, ...]]) -> Run:
    run_id, name, document, model_id, reward_model_id, created_at = row
    return Run(run_id, name, parse_recipe(document, f"run {name}"), model_id, reward_model_id, created_at)


def create_run(
    connection: Connection, name: str, recipe: Recipe, model_id: int, reward_model_id: int | None
) -> Run:
    """Stores a run with its whole recipe.

    Raises:
        ConflictError: the name is taken.
    """
    made = connection.execute(
        text(
            "INSERT INTO runs (name, recipe, seed, model_id, reward_model_id) "
            "VALUES (:name, CAST(:recipe AS jsonb), :seed, :model_id, :reward_model_id) "
            "ON CONFLICT (name) DO NOTHING RETURNING id"
        ),
        {
            "name": name,
            "recipe": json.dumps(recipe.document()),
            "seed": recipe.seed,
            "model_id": model_id,
            "reward_model_id": reward_model_id,
        },
    ).scalar()
    if made is None:
        raise ConflictError(
            f"there is already a run {name!r}; choose another: hsstar runs create --recipe FILE --name NAME"
        )
    return get_run(connection, made)


def get_run(connection: Connection, run_id: int) -> Run:
    """The run of this id."""
    return _run(connection.execute(text(f"{_RUNS} WHERE id = :id"), {"id": run_id}).one())


def find_run(connection: Connection, name: str) -> Run:
    """The run of this name.

    Raises:
        NotFoundError: naming the runs that exist.
    """
    row = connection.execute(text(f"{_RUNS} WHERE name = :name"), {"name": name}).first()
    if row is None:
        known = ", ".join(run.name for run in list_runs(connection)) or "none yet"
        raise NotFoundError(f"there is no run {name!r} (runs: {known})")
    return _run(row)


def list_runs(connection: Connection) -> list[Run]:
    """Every run, oldest first."""
    return [_run(row) for row in connection.execute(text(f"{_RUNS} ORDER BY id"))]


def active_run_ids(connection: Connection) -> list[int]:
    """Runs that still have something to advance, oldest first."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT rounds.run_id
            FROM rounds
            LEFT JOIN iterations ON iterations.round_id = rounds.id
            LEFT JOIN evaluations ON evaluations.round_id = rounds.id
            WHERE iterations.state <> 'done'
               OR (evaluations.round_id IS NOT NULL AND evaluations.finished_at IS NULL)
            ORDER BY 1
        """)
    )
    return list(rows.scalars())
