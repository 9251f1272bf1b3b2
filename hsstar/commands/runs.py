"""Create runs, add iterations, and continue a run without what failed.

Each command writes its rows in one transaction. Workers see new work within seconds, by the rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.marker import check_free
from hsstar.commands.benchmarks import check_benchmark
from hsstar.commands.models import check_recipe_policy
from hsstar.commands.prompts import check_rendering, with_examples, with_thinking
from hsstar.commands.rewards import check_rewards
from hsstar.commands.sources import check_sources
from hsstar.domain.contamination import OverlapCount
from hsstar.domain.errors import BadInputError, ConflictError, HeldError, NotFoundError
from hsstar.domain.lifecycle import IterationState
from hsstar.engines.prompts import check_end_of_text, check_stop_tokens, prompt_renderer
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe
from hsstar.store import contamination, datasets, missing, models, rounds, runs
from hsstar.store.database import Database, lock_run
from hsstar.store.rounds import Iteration
from hsstar.store.runs import Run
from hsstar.verifier.kinds import check_settings


@dataclass(frozen=True, slots=True)
class Origin:
    """What a fork shares, and the name of the policy that it begins with."""

    shared: runs.Fork
    policy: str


def create_run(
    database: Database,
    recipe: Recipe,
    name: str,
    models_folder: Path | None = None,
    origin: Origin | None = None,
) -> Run:
    """Check everything that a recipe names (models, datasets, number of problems) and store a run.

    Its checkpoints will lie in the folder `name` of `models_folder`; None: that is for workers elsewhere.
    With `origin` it is a fork.

    Raises:
        CheckpointError: a checkpoint of the recipe is missing or broken, or has no chat template to use or no
            end-of-text token to train with.
        NotFoundError: a dataset of the recipe has not been imported.
        BadInputError: a dataset is too small for one iteration, or the engine does not know an option.
        ConflictError: the name is taken, or another's checkpoints lie at their place.
    """
    if models_folder is not None:
        check_free(models_folder / name)
    recipe = recipe.model_copy(update={"policy": with_examples(database, recipe.policy)})
    policy = check_recipe_policy(database, _first_policy(recipe, origin))
    recipe = recipe.model_copy(update={"policy": with_thinking(recipe.policy, policy.location)})
    if recipe.training.objective != "none":
        check_end_of_text(policy.location)
        prompt_renderer(recipe.policy.prompt.resolved, policy.location)  # a server's template trains nobody
    check_stop_tokens(policy.location, recipe.sampling.stop_token_ids)
    check_rendering(database, recipe, policy.location)
    sections, teachers = check_sources(database, recipe, policy)
    recipe = recipe.model_copy(update={"sources": sections})
    for settings in recipe.verification.all_settings:
        check_settings(settings)
    scorers = check_rewards(recipe)
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, recipe.problems.dataset)
        _check_evaluation(connection, recipe)
        contamination.find_overlaps(connection, [dataset.id], _measured(connection, dataset, recipe))
        model, *beside = (of.register(connection) for of in (policy, *teachers))
        source_ids = [teacher.id for teacher in beside]
        reward_model_ids = [scorer.register(connection).id for scorer in scorers]
        shared = None if origin is None else origin.shared
        run = runs.create_run(connection, name, recipe, model.id, reward_model_ids, source_ids, shared)
        refuse_policy_names(connection, name)
        _check_slices(dataset.name, _available(connection, run, dataset.id), recipe, 1)
        return run


def refuse_policy_names(connection: Connection, name: str) -> None:
    """Raise ConflictError if policies have the names that a run of this name gives to its own."""
    if taken := models.names_of_run(connection, name):
        raise ConflictError(f"there is already a policy {taken[0]!r}; choose another name for the run")


def _first_policy(recipe: Recipe, origin: Origin | None) -> PolicySection:
    if origin is not None:
        return recipe.policy.model_copy(update={"model": origin.policy})
    if recipe.fork is not None:
        raise BadInputError(
            f"the recipe is of a fork of run {recipe.fork.run!r}; remove [fork], or see: hsstar runs fork"
        )
    return recipe.policy


def run_overlaps(database: Database, recipe: Recipe) -> list[OverlapCount]:
    """Count the known overlaps of a recipe's training problems with what it measures policies on."""
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, recipe.problems.dataset)
        return contamination.count_overlaps(connection, [dataset.id], _measured(connection, dataset, recipe))


def _measured(connection: Connection, dataset: datasets.Dataset, recipe: Recipe) -> list[int]:
    """The datasets that training problems are compared with; their own only if the run is evaluated on it."""
    measured = contamination.evaluation_datasets(connection, recipe.evaluation.datasets)
    own = dataset.name in recipe.evaluation.datasets
    return [other for other in measured if own or other != dataset.id]


def start_iterations(database: Database, run: Run, count: int, *, keep_going: bool = False) -> list[int]:
    """Add `count` iterations to a run; return their numbers.

    With `keep_going` the run continues after one of them that trains nothing.

    Raises:
        ConflictError: earlier iterations are still under way, or the engine cannot load a trained policy.
        HeldError: the run is held.
        BadInputError: the dataset holds too few problems for fresh slices.
    """
    with database.begin() as connection:
        lock_run(connection, run.id)
        refuse_held(connection, run)
        refuse_without_problems(run)
        known = rounds.list_iterations(connection, run.id)
        refuse_unfinished(run, known)
        first = next_iteration(run, known)
        numbers = list(range(first, first + count))
        dataset = datasets.find_dataset(connection, run.recipe.problems.dataset)
        available = _available(connection, run, dataset.id)
        _check_slices(dataset.name, available, run.recipe, count)
        refuse_new_policies(run, numbers)
        rounds.add_iterations(connection, run, numbers, keep_going=keep_going)
    return numbers


def next_iteration(run: Run, known: Sequence[Iteration]) -> int:
    """Return the number of the iteration that follows the known ones."""
    return run.first_iteration + len(known)


def accept_missing(database: Database, run: Run) -> int:
    """Discard the failed jobs of a run, so that it continues without them; return how many there were.

    Their problems are left out of their rounds with the reason. Raise NotFoundError if no job has failed.
    """
    with database.begin() as connection:
        lock_run(connection, run.id)
        count = missing.discard_failed(connection, run.id)
    if not count:
        raise NotFoundError(f"no job of run {run.name!r} has failed; see: hsstar status {run.name} --missing")
    return count


def refuse_held(connection: Connection, run: Run) -> None:
    """Raise HeldError if no work of a run is planned at present."""
    if line := runs.get_run(connection, run.id).hold_line:
        raise HeldError(line)


def refuse_unfinished(run: Run, known: list[Iteration]) -> None:
    """Raise ConflictError while an earlier iteration is under way."""
    unfinished = [
        str(iteration.round.number) for iteration in known if iteration.state is not IterationState.DONE
    ]
    if unfinished:
        raise ConflictError(
            f"run {run.name!r} still has iterations under way ({', '.join(unfinished)}); "
            f"watch them: hsstar status {run.name}"
        )


def refuse_new_policies(run: Run, numbers: list[int]) -> None:
    """Raise ConflictError if iterations sample a trained policy that the engine cannot load."""
    if run.recipe.policy.one_policy_only and run.recipe.training.objective != "none" and numbers[-1] > 0:
        raise ConflictError(
            f"iteration {numbers[-1]} of run {run.name!r} samples from a policy that is trained before, and "
            "policy.openai.reload = 'none' says that the server cannot load it; "
            "make a run with reload = 'vllm', or ask for one iteration"
        )


def refuse_without_problems(run: Run) -> None:
    """Raise ConflictError for a run that only evaluates."""
    if not run.recipe.problems.used:
        raise ConflictError(f"run {run.name!r} only evaluates: it has no training problems")


def _available(connection: Connection, run: Run, dataset_id: int) -> int:
    problems = run.recipe.problems
    return rounds.count_available_problems(
        connection,
        run.id,
        dataset_id,
        without_overlaps=problems.overlaps == "exclude",
        repeat=problems.repeat,
    )


def _check_slices(dataset: str, available: int, recipe: Recipe, count: int) -> None:
    """Refuse iterations without enough problems; where problems come again, only the first is foreseen."""
    problems = recipe.problems
    wanted = {"never": " that the run has not taken yet", "unsolved": " that the run has not solved yet"}
    left_out = " and that overlap no evaluation" if problems.overlaps == "exclude" else ""
    foreseen = count if problems.repeat == "never" else 1
    if available < foreseen * problems.per_iteration:
        raise BadInputError(
            f"dataset {dataset!r} holds {available} usable problems{wanted.get(problems.repeat, '')}"
            f"{left_out}, "
            f"and {foreseen} × {problems.per_iteration} are asked for; "
            "import more, or ask for fewer iterations"
        )


def _check_evaluation(connection: Connection, recipe: Recipe) -> None:
    if recipe.evaluation.dataset is not None:
        dataset = datasets.find_dataset(connection, recipe.evaluation.dataset)
        wanted = recipe.evaluation.problems or 1
        if dataset.usable < wanted:
            raise BadInputError(
                f"dataset {dataset.name!r} holds {dataset.usable} usable problems, "
                f"and evaluation.problems asks for {wanted}"
            )
    for benchmark in recipe.evaluation.benchmarks:
        check_benchmark(connection, benchmark)
