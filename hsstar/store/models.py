"""Policies and reward models: names for checkpoints, with where they came from."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, text

from hsstar.checkpoints.resolve import fingerprint, resolve
from hsstar.domain.errors import CheckpointError, ConflictError, NotFoundError
from hsstar.store import models


@dataclass(frozen=True, slots=True)
class Model:
    """A policy checkpoint.

    Attributes:
        location: folder, hub name or `builtin:` name.
        fingerprint: names the content of the checkpoint.
        parent: the policy that it was trained from.
    """

    id: int
    name: str
    location: str
    fingerprint: str
    parent: str | None


@dataclass(frozen=True, slots=True)
class RewardModel:
    """A process reward model checkpoint of a known family."""

    id: int
    name: str
    location: str
    family: str
    fingerprint: str


_MODELS = """
    SELECT models.id, models.name, models.location, models.fingerprint, parents.name
    FROM models
    LEFT JOIN models AS parents ON parents.id = models.parent_id
"""


def register_model(
    connection: Connection, name: str, location: str, fingerprint: str, parent_id: int | None = None
) -> Model:
    """The model of this name; made where it is missing.

    Raises:
        ConflictError: the name stands for another checkpoint.
    """
    connection.execute(
        text(
            "INSERT INTO models (name, location, fingerprint, parent_id) "
            "VALUES (:name, :location, :fingerprint, :parent_id) ON CONFLICT (name) DO NOTHING"
        ),
        {"name": name, "location": location, "fingerprint": fingerprint, "parent_id": parent_id},
    )
    model = find_model(connection, name)
    if (model.fingerprint, model.location) != (fingerprint, location):
        raise ConflictError(
            f"model {name!r} is already registered, with other weights or from elsewhere "
            f"({model.location}); choose another name: hsstar models add NAME PATH"
        )
    return model


def find_model(connection: Connection, name: str) -> Model:
    """The model of this name.

    Raises:
        NotFoundError: there is none.
    """
    row = connection.execute(text(f"{_MODELS} WHERE models.name = :name"), {"name": name}).first()
    if row is None:
        raise NotFoundError(f"there is no model {name!r}; see: hsstar models list")
    return Model(*row)


def list_models(connection: Connection) -> list[Model]:
    """Every model, oldest first."""
    return [Model(*row) for row in connection.execute(text(f"{_MODELS} ORDER BY models.id"))]


def get_model(connection: Connection, model_id: int) -> Model:
    """The model of this id."""
    row = connection.execute(text(f"{_MODELS} WHERE models.id = :id"), {"id": model_id}).one()
    return Model(*row)


def register_reward_model(
    connection: Connection, name: str, location: str, family: str, fingerprint: str
) -> RewardModel:
    """The reward model of this name; made where it is missing.

    Where the name stands for other weights, because its place has got new ones since, the new ones are
    registered as NAME@FINGERPRINT.
    """
    connection.execute(
        text(
            "INSERT INTO reward_models (name, location, family, fingerprint) "
            "VALUES (:name, :location, :family, :fingerprint) ON CONFLICT (name) DO NOTHING"
        ),
        {"name": name, "location": location, "family": family, "fingerprint": fingerprint},
    )
    row = connection.execute(
        text("SELECT id, name, location, family, fingerprint FROM reward_models WHERE name = :name"),
        {"name": name},
    ).one()
    if row.fingerprint != fingerprint:
        marked = f"{name}@{fingerprint[:8]}"
        return register_reward_model(connection, marked, location, family, fingerprint)
    return RewardModel(row.id, row.name, row.location, row.family, row.fingerprint)


def get_reward_model(connection: Connection, reward_model_id: int) -> RewardModel:
    """The reward model of this id."""
    row = connection.execute(
        text("SELECT id, name, location, family, fingerprint FROM reward_models WHERE id = :id"),
        {"id": reward_model_id},
    ).one()
    return RewardModel(*row)


def checkpoint_of(registered: models.Model | models.RewardModel) -> Path:
    """The folder of a policy or reward model, whose content has to be what was registered.

    Raises:
        CheckpointError: it is gone, or holds other weights by now.
    """
    folder = resolve(registered.location)
    if fingerprint(folder) != registered.fingerprint:
        raise CheckpointError(
            f"{registered.location} no longer holds the weights that were registered as {registered.name!r}; "
            "put them back, or create a new run"
        )
    return folder
