"""Make a run, and say what its recipe's data, prompts and engines give reason to look at."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hsstar.checkpoints.size import model_size
from hsstar.commands.models import check_engine, check_installation, policy_location
from hsstar.commands.prompts import check_room
from hsstar.commands.runs import create_run, run_overlaps
from hsstar.commands.sources import look_at_sources
from hsstar.domain.contamination import OverlapCount
from hsstar.domain.findings import Level
from hsstar.recipe.recipe import Recipe
from hsstar.store.database import Database


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that was just made, and what its user should know."""

    run: str
    overlaps: Sequence[OverlapCount]  # of its training problems with what it measures policies on
    warnings: Sequence[str]


def make_run(database: Database, recipe: Recipe, models_folder: Path) -> NewRun:
    """Create the run of a recipe, under its name. Raise as `create_run` does."""
    run = create_run(database, recipe, recipe.name, models_folder)
    overlaps = run_overlaps(database, recipe)
    location = policy_location(database, recipe.policy.model)
    findings = check_engine(recipe.policy, model_size(location).parameters) + check_installation(recipe)
    findings += check_room(database, recipe, location) + look_at_sources(database, recipe)
    return NewRun(run.name, overlaps, [finding.text for finding in findings if finding.level is Level.WARN])
