"""The runs of evaluations outside of training: found again by everything that decides their samples."""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.recipe.verification import VerificationSection
from hsstar.store import evaluations, models, runs
from hsstar.store.database import Database
from hsstar.store.runs import Run


@dataclass(frozen=True, slots=True)
class EvaluationRun:
    """One policy, or external responses, on some benchmarks."""

    run: Run  # where the evaluations are stored
    model: str  # what is measured
    parts: tuple[tuple[str, str], ...]  # (benchmark, evaluation key), in the order asked for

    def is_finished(self, database: Database) -> bool:
        """Tell whether every part has its accuracy."""
        with database.begin() as connection:
            return evaluations.all_finished(connection, self.run.id, [key for _, key in self.parts])


def ensure_run(
    connection: Connection,
    policy: PolicySection,
    model: models.Model,
    seed: int,
    verification: VerificationSection | None = None,
) -> Run:
    """Find the run whose name follows from policy, weights, seed and verification, or create it."""
    recipe = _recipe(policy, model, seed, verification or VerificationSection())
    if recipe.name in {run.name for run in runs.list_runs(connection)}:
        return runs.find_run(connection, recipe.name)
    return runs.create_run(connection, recipe.name, recipe, model.id, None)


def _recipe(
    policy: PolicySection, model: models.Model, seed: int, verification: VerificationSection
) -> Recipe:
    section = policy.model_dump(mode="json") | {"model": model.name}
    verified = verification.model_dump(mode="json")
    other = [] if verification == VerificationSection() else [verified]
    decisive = json.dumps([section, model.fingerprint, seed, *other], sort_keys=True)
    digest = hashlib.sha256(decisive.encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w.+-]+", "-", Path(model.name).name)[:60]
    return parse_recipe(
        {
            "name": f"evaluate-{readable}-{digest}",
            "seed": seed,
            "problems": {"dataset": "none", "per_iteration": 1},
            "policy": section,
            "verification": verified,
            "difficulty": {"signal": "accuracy"},
            "pairs": {"rule": "random"},
            "training": {"objective": "none"},
        },
        "evaluation",
    )
