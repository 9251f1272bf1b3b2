"""From a section of a recipe to what a trainer is told."""

from dataclasses import fields

from hsstar.engines.contracts import TrainingSettings
from hsstar.recipe.training import OptimisationSection

_OF_A_SECTION = tuple(field.name for field in fields(TrainingSettings) if field.name != "seed")


def training_settings(section: OptimisationSection, seed: int) -> TrainingSettings:
    """The settings that a section gives; what it does not know keeps the trainer's default."""
    given = {name: getattr(section, name) for name in _OF_A_SECTION if hasattr(section, name)}
    return TrainingSettings(**given, seed=seed)
