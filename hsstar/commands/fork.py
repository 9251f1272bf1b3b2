"""Fork a run: share what is before an iteration, and continue from there with another recipe."""

from pathlib import Path
from typing import Any

from hsstar.commands.runs import Origin, create_run
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.lifecycle import IterationState
from hsstar.recipe.documents import merged
from hsstar.recipe.recipe import Recipe, parse_recipe
from hsstar.store import evaluations, rounds, runs
from hsstar.store.database import Database
from hsstar.store.runs import Fork, Run


def fork_run(
    database: Database,
    name: str,
    iteration: int,
    changes: dict[str, Any],
    new_name: str | None = None,
    models_folder: Path | None = None,
) -> Run:
    """Make a run that shares the iterations of another below this one, by reference, and goes its own way.

    Args:
        database: where the run is.
        name: of the run that is forked.
        iteration: the first one that the new run does itself; all before it must be done.
        changes: of the recipe, table by table.
        new_name: None for NAME-from-ITERATION.
        models_folder: as in `create_run`.

    Raises:
        ConflictError: an iteration before it is not done.
        BadInputError: the changes name another policy; else as `create_run`.
    """
    with database.begin() as connection:
        run = runs.find_run(connection, name)
        _check_done(run, rounds.list_shared_iterations(connection, run.id), iteration)
        policy = dict(rounds.list_policies(connection, run.id))[iteration]
        recipe = _recipe(run, iteration, changes, new_name or f"{name}-from-{iteration}")
        alike = _evaluates_alike(run.recipe, recipe) and evaluations.finished_up_to(
            connection, run.id, iteration
        )
    return create_run(
        database, recipe, recipe.name, models_folder, Origin(Fork(run.id, iteration, alike), policy)
    )


def _check_done(run: Run, known: list[rounds.Iteration], iteration: int) -> None:
    done = [of.state is IterationState.DONE for of in known]
    finished = done.index(False) if False in done else len(done)
    if iteration > finished:
        raise ConflictError(
            f"run {run.name!r} has {finished} finished iterations; fork it from one of 0 to {finished}"
        )


def _recipe(run: Run, iteration: int, changes: dict[str, Any], name: str) -> Recipe:
    document = merged(run.recipe.document(), changes)
    origin = {"run": run.name, "iteration": iteration}
    recipe = parse_recipe(document | {"name": name, "fork": origin}, f"fork of {run.name}")
    if recipe.policy.model != run.recipe.policy.model:
        raise BadInputError("a fork begins with a policy of the run; policy.model stays")
    return recipe


def _evaluates_alike(before: Recipe, after: Recipe) -> bool:
    """Tell whether two recipes draw the same samples when they evaluate a policy."""

    def decisive(recipe: Recipe) -> tuple[object, ...]:
        sampling = recipe.sampling
        return recipe.seed, recipe.evaluation, recipe.policy, sampling.stop, sampling.stop_token_ids

    return decisive(before) == decisive(after)
