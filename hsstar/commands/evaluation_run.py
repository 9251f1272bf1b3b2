"""The runs of evaluations outside of training: found again by all that decides their samples."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from hsstar.domain.benchmarks import GREEDY, Decoding
from hsstar.domain.errors import BadInputError
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import evaluations, models, runs
from hsstar.store.database import Database
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class Started:
    """An evaluation that is under way, or done.

    Attributes:
        run: where it is stored.
        model: what is measured.
        wanted: (benchmark, evaluation key) of each part, in the order asked for.
    """

    run: Run
    model: str
    wanted: tuple[tuple[str, str], ...]


def section_of(
    name: str, protocol: Decoding | None, problems: int | None, changes: dict[str, Any]
) -> BenchmarkSection:
    """A benchmark, or another dataset, with its protocol and what is to be other.

    Raises:
        BadInputError: the values contradict each other.
    """
    document = {"name": name, "problems": problems} | asdict(protocol or GREEDY) | changes
    try:
        return BenchmarkSection.model_validate(document)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError(f"{name}: {message}") from None


def is_finished(database: Database, started: Started) -> bool:
    """Whether every part has its accuracy."""
    with database.begin() as connection:
        return evaluations.all_finished(connection, started.run.id, [each for _, each in started.wanted])


def evaluation_recipe(policy: PolicySection, model: models.Model, seed: int) -> Recipe:
    """What decides the samples of an evaluation, with a name that follows from it."""
    document = policy.model_dump(mode="json") | {"model": model.name}
    told = json.dumps([document, model.fingerprint, seed], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w.+-]+", "-", Path(model.name).name)[:60]
    return parse_recipe(
        {
            "name": f"evaluate-{readable}-{digest}",
            "seed": seed,
            "problems": {"dataset": "none", "per_iteration": 1},
            "policy": document,
            "difficulty": {"signal": "accuracy"},
            "pairs": {"rule": "random"},
            "training": {"objective": "none"},
        },
        "evaluation",
    )


def ensure_run(connection: Connection, recipe: Recipe, model: models.Model) -> Run:
    """The run of this recipe, made where it is missing."""
    if recipe.name in {run.name for run in runs.list_runs(connection)}:
        return runs.find_run(connection, recipe.name)
    return runs.create_run(connection, recipe.name, recipe, model.id, None)
