"""Register policies, and check those that a recipe names, with the engines that sample from them."""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.adapters import move_base
from hsstar.checkpoints.resolve import base_location, check_policy, fingerprint
from hsstar.checkpoints.size import model_size
from hsstar.domain.errors import BadInputError, MissingDependencyError
from hsstar.domain.findings import Finding, Level
from hsstar.engines.prompts import checking_renderer
from hsstar.engines.registry import check_installed, check_sampler_options
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe
from hsstar.store import models
from hsstar.store.database import Database

LARGE_FROM = 3e9
"""Parameters of a policy from which on transformers samples only where a recipe says so."""


def add_model(database: Database, name: str, location: str) -> models.Model:
    """Check the files of a policy checkpoint and register it under a name.

    Raise CheckpointError if it is missing, broken or no policy, ConflictError if the name has other weights.
    """
    lasting = lasting_location(location)
    context = check_policy(lasting).context
    with database.begin() as connection:
        return models.register_model(
            connection, name, lasting, fingerprint(lasting), context=context, base=base_location(lasting)
        )


def move_models(database: Database, before: Path, after: Path) -> int:
    """Register the checkpoints below a folder that has moved at its new place; return their number.

    Adapters are told where their base is now.
    """
    with database.begin() as connection:
        for adapter in (model for model in models.list_models(connection) if model.base is not None):
            place = adapter.location
            if place.startswith(f"{before}/"):
                place = f"{after}{place.removeprefix(str(before))}"
            move_base(Path(place), str(before), str(after))
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
    base: str | None  # location of the whole checkpoint that its adapter needs

    def register(self, connection: Connection) -> models.Model:
        """Return the model of this name, added if missing; errors as in `models.register_model`."""
        return models.register_model(
            connection, self.name, self.location, self.fingerprint, context=self.context, base=self.base
        )


def check_recipe_policy(database: Database, policy: PolicySection) -> CheckedPolicy:
    """Check everything that `[policy]` names.

    Raise CheckpointError if the checkpoint is missing or broken, or has no chat template to use, and
    BadInputError if the engine does not know an option, or nobody chose transformers for a large policy.
    """
    with database.begin() as connection:
        registered = {model.name: model for model in models.list_models(connection)}
    name = lasting_location(policy.model)
    known = registered.get(name)
    location = known.location if known else name
    context = check_policy(location).context
    check_sampler_options(policy.engine, policy.engine_options)
    for finding in check_engine(policy, model_size(location).parameters):
        if finding.level is Level.FAIL:
            raise BadInputError(finding.text)
    checking_renderer(policy.prompt.resolved, location, messages=policy.sends_messages)
    content = fingerprint(location)
    if known and known.location == known.name and known.fingerprint != content:
        name = f"{name}@{content[:8]}"  # the place holds other weights by now
    return CheckedPolicy(name, location, content, context, base_location(location))


def check_engine(policy: PolicySection, parameters: int | None) -> list[Finding]:
    """Warn if a large policy is sampled by transformers; fail if `[policy]` does not even say so."""
    if policy.engine != "transformers" or parameters is None or parameters < LARGE_FROM:
        return []
    size = f"a policy of {parameters / 1e9:.1f} billion parameters"
    if "engine" in policy.model_fields_set:
        slow = f"policy.engine = 'transformers' samples from {size}; vLLM does that many times faster"
        return [Finding(Level.WARN, "policy.engine", slow)]
    choose = (
        f"{size} needs policy.engine: 'vllm' (pip install 'hsstar[vllm]'), or 'transformers', "
        "which samples many times slower"
    )
    return [Finding(Level.FAIL, "policy.engine", choose)]


def check_installation(recipe: Recipe) -> list[Finding]:
    """Warn of engines that are not installed here; the workers may be on other machines."""
    findings = []
    for key, engine, kind in (
        ("policy.engine", recipe.policy.engine, "sampling"),
        *((f"sources.{source.name}.engine", source.engine, "sampling") for source in recipe.sources),
        ("reward.engine", recipe.reward.engine, "scoring"),
    ):
        try:
            check_installed(engine)
        except MissingDependencyError as error:
            fails = f"{error}; on a machine without it every {kind} job fails"
            findings.append(Finding(Level.WARN, key, fails))
    return findings


def lasting_location(location: str) -> str:
    """Make a location mean the same from any directory: names stay, folders become absolute paths."""
    folder = Path(location).expanduser()
    return str(folder.resolve()) if folder.exists() else location


def policy_location(database: Database, name: str) -> str:
    """Return where the policy of a registered name lies; any other name is a location itself."""
    with database.begin() as connection:
        return next((model.location for model in models.list_models(connection) if model.name == name), name)
