"""Imports problems of the demo's family into the datasets of a recipe."""

import tempfile
from pathlib import Path

from hsstar.commands.problems import ImportReport, import_problems
from hsstar.data.files import ProblemFiles
from hsstar.demo import family
from hsstar.domain.problems import ProblemFormat
from hsstar.recipe.recipe import Recipe
from hsstar.store.database import Database


def import_demo_problems(database: Database, recipe: Recipe, slices: int) -> dict[str, ImportReport]:
    """Import training problems for this many slices and the held-out problems; return reports by dataset.

    The import skips problems that a dataset has already. The two sides never share a problem.
    """
    wanted = {recipe.problems.dataset: (recipe.problems.per_iteration * slices, False)}
    if recipe.evaluation.dataset is not None and recipe.evaluation.problems is not None:
        wanted[recipe.evaluation.dataset] = (recipe.evaluation.problems, True)
    reports = {}
    with tempfile.TemporaryDirectory() as folder:
        for dataset, (count, held_out) in wanted.items():
            file = Path(folder) / f"{dataset}.jsonl"
            family.write_problems(file, family.distinct_problems(count, 0, held_out=held_out))
            reports[dataset] = import_problems(database, ProblemFiles([file], ProblemFormat.GSM8K), dataset)
    return reports
