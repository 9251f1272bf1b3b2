"""The document of a study: TOML with a recipe, seeds, and strategies as changes of that recipe."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hsstar.domain.errors import RecipeError
from hsstar.recipe.base import parse_section
from hsstar.recipe.documents import EXTENDS, extended, merged, read_toml
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.recipe.texts import with_texts

Name = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[\w.+-]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**31)]

_OF_THE_STUDY = ("name", "seed", "problems", "evaluation", EXTENDS)
"""Keys of a recipe that a strategy cannot change: seeds are paired by equal problems."""


class StudyDocument(BaseModel):
    """The keys of a study file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Name
    seeds: Annotated[tuple[Seed, ...], Field(min_length=2)]
    iterations: Annotated[int, Field(ge=1)] = 3
    reference: Name
    """The strategy that the others are compared with."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    problems: Literal["imported", "demo"] = "imported"
    """`demo` creates the datasets from the demo's problems, as large as the recipe asks for."""
    recipe: dict[str, Any]
    """What every strategy starts from; may extend a recipe file."""
    strategies: Annotated[dict[Name, dict[str, Any]], Field(min_length=2)]

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(value)) < len(value):
            raise ValueError("a seed is listed twice")
        return value

    @model_validator(mode="after")
    def _reference_known(self) -> Self:
        if self.reference not in self.strategies:
            raise ValueError(f"reference = {self.reference!r} is none of {', '.join(self.strategies)}")
        return self


@dataclass(frozen=True, slots=True)
class StudyRun:
    """One run of a study: a strategy under a seed, with its whole recipe."""

    strategy: str
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        """The run's name in the database."""
        return self.recipe.name


@dataclass(frozen=True, slots=True)
class Study:
    """A checked study; its runs are ordered by seed, then as the strategies in the file."""

    document: StudyDocument
    runs: tuple[StudyRun, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of its runs, in the order of the file."""
        return tuple(dict.fromkeys(run.seed for run in self.runs))

    def part(self, seeds: Collection[int]) -> "Study":
        """Return the part of the study that these seeds are; raise RecipeError if the file lacks one."""
        if unknown := sorted(set(seeds) - set(self.document.seeds)):
            known = ", ".join(map(str, self.document.seeds))
            raise RecipeError(f"seed {unknown[0]} is none of the study's: {known}")
        return Study(self.document, tuple(run for run in self.runs if run.seed in seeds))

    def of_seed(self, seed: int) -> tuple[StudyRun, ...]:
        """Return the runs of one seed, a strategy each."""
        return tuple(run for run in self.runs if run.seed == seed)


def load_study(path: Path) -> Study:
    """Read a study and check its recipes; raise RecipeError, which names the key, if one is wrong."""
    document = parse_section(StudyDocument, read_toml(path), str(path))
    base = extended(document.recipe, path.parent, (path,))
    runs = tuple(
        StudyRun(strategy, seed, _recipe(path, document.name, base, strategy, changes, seed))
        for seed in document.seeds
        for strategy, changes in document.strategies.items()
    )
    _check_heldout(path, document, runs[0].recipe)
    return Study(document, runs)


def _recipe(
    path: Path, study: str, base: dict[str, Any], strategy: str, changes: dict[str, Any], seed: int
) -> Recipe:
    for key in _OF_THE_STUDY:
        if key in changes:
            raise RecipeError(
                f"{path}: strategies.{strategy}: {key!r} is the same for every strategy of a study; "
                "set it in [recipe]"
            )
    own = {"name": f"{study}-{strategy}-{seed}", "seed": seed}
    changes = with_texts(changes, path.parent, str(path))
    return parse_recipe(merged(base, changes) | own, f"{path}: strategies.{strategy}")


def _check_heldout(path: Path, document: StudyDocument, recipe: Recipe) -> None:
    if recipe.evaluation.dataset is None:
        raise RecipeError(f"{path}: recipe.evaluation.dataset is missing: a study compares held-out accuracy")
    if document.problems == "demo" and recipe.evaluation.problems is None:
        raise RecipeError(
            f"{path}: recipe.evaluation.problems is missing: it says how many problems are made"
        )
