"""Brings a study to its end: makes the runs that are missing and goes on with those that are there.

Nothing is remembered between two calls: what exists is read from the rows, so an interrupted study goes on.
"""

from hsstar.commands.runs import create_run, start_iterations
from hsstar.demo.problems import import_demo_problems
from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.store import datasets, runs
from hsstar.store.database import Database
from hsstar.store.read import studies
from hsstar.store.read.studies import RunState
from hsstar.study.document import Study, StudyRun


def prepare_problems(database: Database, study: Study) -> None:
    """Makes the datasets of a study on the demo's family; finds them there at a second call.

    Raises:
        ConflictError: a dataset of that name has another size.
    """
    if study.document.problems != "demo":
        return
    recipe = study.runs[0].recipe
    wanted = {
        recipe.problems.dataset: recipe.problems.per_iteration * study.document.iterations,
        str(recipe.evaluation.dataset): recipe.evaluation.problems,
    }
    with database.begin() as connection:
        there = {dataset.name: dataset.problems for dataset in datasets.list_datasets(connection)}
    for dataset in wanted.keys() & there.keys():
        if there[dataset] != wanted[dataset]:
            raise ConflictError(
                f"dataset {dataset!r} holds {there[dataset]} problems, the study asks for {wanted[dataset]}; "
                "give the study's datasets other names"
            )
    if wanted.keys() - there.keys():
        import_demo_problems(database, recipe, study.document.iterations)


def advance(database: Database, study: Study, at_once: int) -> dict[str, RunState]:
    """Enqueues runs and iterations until `at_once` runs are under way; the states of all that are there.

    Running it again enqueues nothing twice.

    Raises:
        ConflictError: a run of that name has another recipe.
    """
    states = _states(database, study)
    active = sum(state.under_way and not state.stuck for state in states.values())
    for run in study.runs:
        state = states.get(run.name)
        if active >= at_once:
            break
        if state is not None and (state.under_way or state.done >= study.document.iterations):
            continue
        _enqueue(database, run, study.document.iterations - (state.iterations if state else 0))
        active += 1
    return _states(database, study)


def check_recipes(database: Database, study: Study) -> None:
    """Refuses a study whose earlier runs were made from other recipes.

    Raises:
        ConflictError: naming the first such run.
    """
    with database.begin() as connection:
        stored = {run.name: run.recipe for run in runs.list_runs(connection)}
    for run in study.runs:
        if run.name in stored and stored[run.name] != run.recipe:
            raise ConflictError(
                f"run {run.name!r} is there with another recipe, and runs never change; "
                "undo the change of the study file, or give the study another name"
            )


def finished(study: Study, states: dict[str, RunState]) -> bool:
    """Whether every run has all its iterations."""
    return all(run_finished(study, run, states) for run in study.runs)


def run_finished(study: Study, run: StudyRun, states: dict[str, RunState]) -> bool:
    """Whether a run has all its iterations."""
    return run.name in states and states[run.name].done >= study.document.iterations


def stuck_runs(study: Study, states: dict[str, RunState]) -> list[str]:
    """The runs that failed jobs hold up, once no other run can move."""
    moving = any(state.under_way and not state.stuck for state in states.values())
    waiting = any(run.name not in states for run in study.runs)
    if moving or waiting:
        return []
    return [name for name, state in states.items() if state.stuck]


def complete_seeds(study: Study, states: dict[str, RunState]) -> list[int]:
    """The seeds under which every strategy is finished: only these are compared."""
    return [
        seed
        for seed in study.document.seeds
        if all(run_finished(study, run, states) for run in study.of_seed(seed))
    ]


def _states(database: Database, study: Study) -> dict[str, RunState]:
    with database.begin() as connection:
        return studies.run_states(connection, [run.name for run in study.runs])


def _enqueue(database: Database, run: StudyRun, iterations: int) -> None:
    try:
        with database.begin() as connection:
            found = runs.find_run(connection, run.name)
    except NotFoundError:
        found = create_run(database, run.recipe, run.name)
    start_iterations(database, found, iterations)
