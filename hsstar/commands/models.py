"""Register policies, and check those that a recipe names."""

from dataclasses import dataclass
from pathlib import Path

from hsstar.checkpoints.resolve import check_policy, fingerprint
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import check_sampler_options
from hsstar.recipe.policy import PolicySection
from hsstar.store import models
from hsstar.store.database import Database


def add_model(database: Database, name: str, location: str) -> models.Model:
    """Check the files of a policy checkpoint and register it under a name.

    Raise CheckpointError if it is missing, broken or no policy, ConflictError if the name has other weights.
    """
    lasting = lasting_location(location)
    context = check_policy(lasting).context
    with database.begin() as connection:
        return models.register_model(connection, name, lasting, fingerprint(lasting), context=context)


def move_models(database: Database, before: Path, after: Path) -> int:
    """Register the checkpoints below a folder that has moved at its new place; return their number."""
    with database.begin() as connection:
        return models.move_locations(connection, str(before), str(after))


def registered_locations(database: Database) -> dict[str, str]:
    """Return the locations of the registered policies by name."""
    with database.begin() as connection:
        return {model.name: model.location for model in models.list_models(connection)}


@dataclass(frozen=True, slots=True)
class CheckedPolicy:
    """A checked policy, under the name that it is to be registered by."""

    name: str
    location: str
    fingerprint: str
    context: int | None  # tokens that it attends to at most


def check_recipe_policy(database: Database, policy: PolicySection) -> CheckedPolicy:
    """Check everything that `[policy]` names.

    Raise CheckpointError if the checkpoint is missing or broken, or has no chat template to use, and
    BadInputError if the engine does not know an option.
    """
    with database.begin() as connection:
        registered = {model.name: model for model in models.list_models(connection)}
    name = lasting_location(policy.model)
    known = registered.get(name)
    location = known.location if known else name
    context = check_policy(location).context
    check_sampler_options(policy.engine, policy.engine_options)
    prompt_renderer(policy.prompt.resolved, location)
    content = fingerprint(location)
    if known and known.location == known.name and known.fingerprint != content:
        name = f"{name}@{content[:8]}"  # the place holds other weights by now
    return CheckedPolicy(name, location, content, context)


def lasting_location(location: str) -> str:
    """Make a location mean the same from any directory: names stay, folders become absolute paths."""
    folder = Path(location).expanduser()
    return str(folder.resolve()) if folder.exists() else location


def policy_location(database: Database, name: str) -> str:
    """Return where the policy of a registered name lies; any other name is a location itself."""
    with database.begin() as connection:
        return next((model.location for model in models.list_models(connection) if model.name == name), name)
