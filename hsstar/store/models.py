"""Policies and reward models: registered names of checkpoints."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import RewardFamily, fingerprint, resolve
from hsstar.domain.errors import CheckpointError, ConflictError, NotFoundError
from hsstar.domain.suggestions import did_you_mean
from hsstar.store.database import execute_file, row_of, rows_of


@dataclass(frozen=True, slots=True)
class Model:
    """A policy checkpoint."""

    id: int
    name: str
    location: str  # folder, hub name or `builtin:` name
    fingerprint: str  # of the checkpoint's content
    parent: str | None  # name of the policy that it was trained from
    base: str | None = None  # location of the whole checkpoint that its adapter needs; None: it is whole


@dataclass(frozen=True, slots=True)
class RewardModel:
    """What gives rewards: a checkpoint of a known family, a function or a rule."""

    id: int
    name: str
    location: str
    family: str
    fingerprint: str


_MODELS = """
    SELECT
        models.id, models.name, models.location, models.fingerprint, parents.name AS parent, models.base
    FROM models
    LEFT JOIN models AS parents ON parents.id = models.parent_id
"""


def database_id(connection: Connection) -> str:
    """Return the id of this database, which its checkpoints carry."""
    return str(connection.execute(text("SELECT id FROM installation")).scalar_one())


def register_model(
    connection: Connection,
    name: str,
    location: str,
    fingerprint: str,
    parent_id: int | None = None,
    *,
    context: int | None = None,
    base: str | None = None,
) -> Model:
    """Return the model of this name, added if missing; raise ConflictError if it names another checkpoint.

    `context` is how many tokens it attends to at most; a policy has its parent's where it is None. `base` is
    the location of the whole checkpoint that its adapter needs.
    """
    connection.execute(
        text("""
            INSERT INTO models (name, location, fingerprint, parent_id, context, base)
            VALUES (
                :name, :location, :fingerprint, :parent_id,
                coalesce(:context, (SELECT context FROM models WHERE id = :parent_id)), :base
            )
            ON CONFLICT (name) DO NOTHING
        """),
        {
            "name": name,
            "location": location,
            "fingerprint": fingerprint,
            "parent_id": parent_id,
            "context": context,
            "base": base,
        },
    )
    model = find_model(connection, name)
    if (model.fingerprint, model.location) != (fingerprint, location):
        raise ConflictError(
            f"model {name!r} is already registered, with other weights or from elsewhere "
            f"({model.location}); choose another name: hsstar models add NAME PATH"
        )
    return model


def move_locations(connection: Connection, before: str, after: str) -> int:
    """Give the policies and reward models below a folder their place below another; return their number."""
    moved: int = execute_file(connection, "move_models", {"before": before, "after": after}).scalar_one()
    return moved


def find_model(connection: Connection, name: str) -> Model:
    """Return the model of this name; raise NotFoundError without it."""
    model = row_of(connection.execute(text(f"{_MODELS} WHERE models.name = :name"), {"name": name}), Model)
    if model is None:
        raise no_model(name, [known.name for known in list_models(connection)])
    return model


def no_model(name: str, known: Iterable[str]) -> NotFoundError:
    """Return the error of a name that no model has."""
    return NotFoundError(f"there is no model {name!r}; see: hsstar models list{did_you_mean(name, known)}")


def list_models(connection: Connection) -> list[Model]:
    """Return every model, oldest first."""
    return rows_of(connection.execute(text(f"{_MODELS} ORDER BY models.id")), Model)


def get_model(connection: Connection, model_id: int) -> Model:
    """Return the model of this id."""
    query = text(f"{_MODELS} WHERE models.id = :id")
    return Model(**connection.execute(query, {"id": model_id}).mappings().one())


_REWARD_MODELS = "SELECT id, name, location, family, fingerprint FROM reward_models"


def register_reward_model(
    connection: Connection, name: str, location: str, family: str, fingerprint: str
) -> RewardModel:
    """Return the reward model of this name; add it if it is missing.

    If the folder of that name has new weights, register these as NAME@FINGERPRINT.
    """
    connection.execute(
        text(
            "INSERT INTO reward_models (name, location, family, fingerprint) "
            "VALUES (:name, :location, :family, :fingerprint) ON CONFLICT (name) DO NOTHING"
        ),
        {"name": name, "location": location, "family": family, "fingerprint": fingerprint},
    )
    query = text(f"{_REWARD_MODELS} WHERE name = :name")
    registered = RewardModel(**connection.execute(query, {"name": name}).mappings().one())
    if registered.fingerprint != fingerprint:
        marked = f"{name}@{fingerprint[:8]}"
        return register_reward_model(connection, marked, location, family, fingerprint)
    return registered


def get_reward_model(connection: Connection, reward_model_id: int) -> RewardModel:
    """Return the reward model of this id."""
    query = text(f"{_REWARD_MODELS} WHERE id = :id")
    return RewardModel(**connection.execute(query, {"id": reward_model_id}).mappings().one())


def checkpoint_of(registered: Model | RewardModel) -> Path:
    """Return a registered model's folder; raise CheckpointError if it is gone or holds other weights."""
    folder = resolve(registered.location)
    if fingerprint(folder) != registered.fingerprint:
        raise CheckpointError(
            f"{registered.location} no longer holds the weights that were registered as {registered.name!r}; "
            "put them back, or create a new run"
        )
    return folder


def scorer_location(registered: RewardModel) -> str:
    """Return the place of a checkpoint or function, or a rule's settings; errors as in `checkpoint_of`."""
    if registered.family in get_args(RewardFamily):
        return str(checkpoint_of(registered))
    return registered.location


def trained_by(connection: Connection, run_id: int) -> list[Model]:
    """Return the policies that a run has trained, oldest first."""
    query = text(
        f"{_MODELS} JOIN training_runs ON output_model_id = models.id "
        "JOIN rounds ON rounds.id = round_id WHERE run_id = :run_id ORDER BY models.id"
    )
    return rows_of(connection.execute(query, {"run_id": run_id}), Model)


def needed_by_run_alone(connection: Connection, run_id: int) -> list[Model]:
    """Return the policies that a run has trained and that nothing else needs, oldest first."""
    return rows_of(execute_file(connection, "needed_by_run_alone", {"run_id": run_id}), Model)


def delete(connection: Connection, doomed: Sequence[Model]) -> None:
    """Delete the rows of policies that nothing refers to."""
    ids = [model.id for model in doomed]
    connection.execute(text("DELETE FROM models WHERE id = ANY (:ids)"), {"ids": ids})


@dataclass(frozen=True, slots=True)
class PolicyNeed:
    """A trained policy, and what needs its checkpoint."""

    name: str
    location: str
    needed_by: str | None  # None: nothing does


def policy_needs(connection: Connection) -> list[PolicyNeed]:
    """Return the policies that runs have trained, each with what needs it, oldest first."""
    return rows_of(execute_file(connection, "policy_needs", {}), PolicyNeed)


def names_of_run(connection: Connection, run: str) -> list[str]:
    """Return the names of policies that a run of this name would give."""
    query = text("SELECT name FROM models WHERE name ~ ('^' || :stem || '-M[0-9]+$') ORDER BY id")
    return list(connection.execute(query, {"stem": re.escape(run)}).scalars())
