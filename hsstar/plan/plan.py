"""Plan a run: forecast what it takes, and check that it fits."""

from dataclasses import dataclass
from pathlib import Path

from hsstar.commands.models import check_engine, check_installation, registered_locations
from hsstar.commands.problems import usable_problems
from hsstar.commands.prompts import check_room
from hsstar.commands.sources import look_at_sources
from hsstar.domain.errors import DatabaseError
from hsstar.domain.findings import Finding, Level
from hsstar.plan.forecast import Forecast, UserFigures, make_forecast
from hsstar.plan.preflight import (
    Device,
    check_arguments,
    check_data,
    check_disk,
    check_memory,
    check_models,
    check_prompt,
    check_verification,
)
from hsstar.plan.rounding import check_rounding
from hsstar.recipe.recipe import Recipe
from hsstar.store.database import Database
from hsstar.store.read import throughput


@dataclass(frozen=True, slots=True)
class Plan:
    """A forecast, and what the checks of a run found."""

    forecast: Forecast
    findings: list[Finding]


def make_plan(
    recipe: Recipe,
    iterations: int,
    stated: UserFigures,
    device: Device,
    models_directory: Path,
    database: Database | DatabaseError,
) -> Plan:
    """Forecast some iterations of a recipe and check models, data, memory and disk.

    Without a database, `database` is the reason, and the plan has no measurements and no check of the data.
    """
    measured, registered, sizes = None, None, dict[str, int]()
    if isinstance(database, Database):
        with database.begin() as connection:
            measured = throughput.throughput(
                connection,
                recipe.policy.model,
                recipe.policy.engine,
                [reward.model for reward in recipe.scoring if reward.has_model],
                recipe.training.objective,
            )
        registered, sizes = registered_locations(database), usable_problems(database)
    findings, policy, rewards = check_models(recipe, registered)
    forecast = make_forecast(recipe, iterations, stated, measured, policy, sizes, device.gpu)
    if isinstance(database, Database):
        findings += check_data(database, recipe, iterations, sizes)
    else:
        findings.append(Finding(Level.UNCHECKED, "data", str(database)))
    if policy is not None and policy.folder is not None:
        opened = database if isinstance(database, Database) else None
        findings += check_room(opened, recipe, str(policy.folder))
    findings += look_at_sources(database if isinstance(database, Database) else None, recipe)
    findings += check_engine(recipe.policy, None if policy is None else policy.parameters)
    findings += check_installation(recipe)
    findings += check_arguments(recipe)
    findings += check_prompt(recipe)
    findings += check_verification(recipe)
    findings += check_memory(recipe, policy, rewards, device)
    findings.append(check_disk(forecast, models_directory))
    if recipe.training.objective != "none":
        findings.append(check_rounding(recipe, policy, forecast.pairs_per_iteration, gpu=device.gpu))
    return Plan(forecast, findings)
