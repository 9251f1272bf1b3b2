"""The tables of a study as CSV; the one of its runs is read again where machines shared the study."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.recipe.recipe import Recipe
from hsstar.store.read.studies import IterationMetrics
from hsstar.study.document import Study
from hsstar.study.metrics import RunMetrics

_ITERATION = TypeAdapter(IterationMetrics)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write at least one row as CSV, with the keys of the first as header."""
    listed = list(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(listed[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)


def write_runs(path: Path, metrics: Sequence[RunMetrics]) -> None:
    """Write a row per run and iteration; floats as Python prints them, so that they are read back exactly."""
    write_rows(
        path,
        (
            {
                "strategy": run.run.strategy,
                "seed": run.run.seed,
                "recipe": recipe_digest(run.run.recipe),
                **asdict(row),
            }
            for run in metrics
            for row in run.iterations
        ),
    )


def read_runs(paths: Sequence[Path], study: Study) -> list[RunMetrics]:
    """Read what `write_runs` wrote elsewhere for seeds of this study, in the order of its runs.

    Raise BadInputError for a file of another layout, and ConflictError for a run that the study has not, that
    two files have, or that has another recipe or number of iterations, and for a seed that lacks strategies.
    """
    iterations = study.document.iterations
    found: dict[str, tuple[IterationMetrics, ...]] = {}
    recipes = {run.name: recipe_digest(run.recipe) for run in study.runs}
    for path in paths:
        for name, rows in _by_run(path).items():
            if name not in recipes:
                raise ConflictError(f"{path}: the study has no run {name!r}")
            if name in found:
                raise ConflictError(f"{path}: another file has run {name!r} too")
            if any(row["recipe"] != recipes[name] for row in rows):
                raise ConflictError(f"{path}: run {name!r} had another recipe")
            found[name] = tuple(_iteration(path, row) for row in rows)
            if [row.iteration for row in found[name]] != list(range(iterations)):
                raise ConflictError(f"{path}: run {name!r} has not the {iterations} iterations")
    seeds = {run.seed for run in study.runs if run.name in found}
    given = study.part(seeds).runs
    if missing := [run.name for run in given if run.name not in found]:
        raise ConflictError(f"the files lack run {missing[0]!r}: a seed is compared with all its strategies")
    return [RunMetrics(run, found[run.name]) for run in given]


def recipe_digest(recipe: Recipe) -> str:
    """Return 16 hex digits that tell recipes apart by what differs from the defaults.

    So a key that hsstar learns later leaves the results that exist readable.
    """
    return hashlib.sha256(recipe.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]


def _by_run(path: Path) -> dict[str, list[dict[str, str]]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not {"run", "recipe"} <= set(reader.fieldnames or ()):
                raise BadInputError(f"{path} is no table of a study's runs (NAME-runs.csv)")
            by_run: dict[str, list[dict[str, str]]] = {}
            for row in reader:
                by_run.setdefault(row["run"], []).append(row)
            return by_run
    except (OSError, UnicodeError, csv.Error) as error:
        raise BadInputError(f"cannot read {path}: {error}") from None


def _iteration(path: Path, row: dict[str, str]) -> IterationMetrics:
    try:
        return _ITERATION.validate_python({name: cell or None for name, cell in row.items()})
    except ValidationError as error:
        column = ".".join(map(str, error.errors()[0]["loc"]))
        raise BadInputError(f"{path}: a row of run {row['run']!r} has no usable {column}") from None
