"""Runs: a recipe under a name. A run never changes."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.domain.suggestions import did_you_mean
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store.database import row_of, rows_of


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its recipe and the models it starts from."""

    id: int
    name: str
    recipe: Recipe
    model_id: int
    reward_model_id: int | None
    created_at: datetime
    first_iteration: int  # of its own; a fork shares those before it

    @property
    def forked_from(self) -> str | None:
        """The run that it was forked from, and the first iteration of its own; None if it is no fork."""
        fork = self.recipe.fork
        return None if fork is None else f"{fork.run}, iteration {fork.iteration}"


@dataclass(frozen=True, slots=True)
class Fork:
    """What a new run shares with another."""

    run_id: int
    iteration: int  # its iterations below this one
    shares_evaluations: bool  # also those of the policies up to that of the iteration


_RUNS = """
    SELECT id, name, recipe, model_id, reward_model_id, created_at, coalesce(forked_at, 0) AS first_iteration
    FROM runs
"""


def _run(name: str, recipe: dict[str, Any], **fields: Any) -> Run:
    return Run(name=name, recipe=parse_recipe(recipe, f"run {name}"), **fields)


def create_run(
    connection: Connection,
    name: str,
    recipe: Recipe,
    model_id: int,
    reward_model_id: int | None,
    fork: Fork | None = None,
) -> Run:
    """Store a run with its whole recipe; raise ConflictError if the name is taken."""
    run_id = connection.execute(
        text(
            "INSERT INTO runs "
            "(name, recipe, seed, model_id, reward_model_id, forked_from, forked_at, shares_evaluations) "
            "VALUES (:name, CAST(:recipe AS jsonb), :seed, :model_id, :reward_model_id, :forked_from, "
            ":forked_at, :shares_evaluations) ON CONFLICT (name) DO NOTHING RETURNING id"
        ),
        {
            "name": name,
            "recipe": json.dumps(recipe.document()),
            "seed": recipe.seed,
            "model_id": model_id,
            "reward_model_id": reward_model_id,
            "forked_from": fork and fork.run_id,
            "forked_at": fork and fork.iteration,
            "shares_evaluations": fork is not None and fork.shares_evaluations,
        },
    ).scalar()
    if run_id is None:
        raise ConflictError(
            f"there is already a run {name!r}; choose another: hsstar runs create --recipe FILE --name NAME"
        )
    return get_run(connection, run_id)


def get_run(connection: Connection, run_id: int) -> Run:
    """Return the run of this id."""
    return _run(**connection.execute(text(f"{_RUNS} WHERE id = :id"), {"id": run_id}).mappings().one())


def find_run(connection: Connection, name: str) -> Run:
    """Return the run of this name; raise NotFoundError, which names the existing runs, without it."""
    run = row_of(connection.execute(text(f"{_RUNS} WHERE name = :name"), {"name": name}), _run)
    if run is None:
        known = [other.name for other in list_runs(connection)]
        raise NotFoundError(
            f"there is no run {name!r} (runs: {', '.join(known) or 'none yet'}){did_you_mean(name, known)}"
        )
    return run


def list_runs(connection: Connection) -> list[Run]:
    """Return every run, oldest first."""
    return rows_of(connection.execute(text(f"{_RUNS} ORDER BY id")), _run)


def active_run_ids(connection: Connection) -> list[int]:
    """Runs that still have something to advance, oldest first."""
    rows = connection.execute(
        text("""
            SELECT DISTINCT rounds.run_id
            FROM rounds
            JOIN round_states ON round_states.round_id = rounds.id
            WHERE state <> 'done'
            ORDER BY 1
        """)
    )
    return list(rows.scalars())
