"""Complete a study: create the runs that are missing and continue those that exist.

Nothing is remembered between two calls. What exists is read from the rows, so an interrupted study continues.
"""

from pathlib import Path

from hsstar.checkpoints.marker import check_free
from hsstar.commands.runs import create_run, start_iterations
from hsstar.demo.problems import import_demo_problems
from hsstar.domain.errors import ConflictError, NotFoundError
from hsstar.store import datasets, runs
from hsstar.store.database import Database
from hsstar.store.read import progress, studies
from hsstar.store.read.progress import QueueState
from hsstar.store.read.studies import RunState
from hsstar.study.document import Study, StudyRun


def prepare_problems(database: Database, study: Study) -> None:
    """Ensure the datasets of a study on the demo's problems; raise ConflictError if one has another size."""
    if study.document.problems != "demo":
        return
    recipe = study.runs[0].recipe
    wanted = {
        recipe.problems.dataset: recipe.problems.per_iteration * study.document.iterations,
        str(recipe.evaluation.dataset): recipe.evaluation.problems,
    }
    with database.begin() as connection:
        existing = {dataset.name: dataset.problems for dataset in datasets.list_datasets(connection)}
    for dataset in wanted.keys() & existing.keys():
        if existing[dataset] != wanted[dataset]:
            raise ConflictError(
                f"dataset {dataset!r} holds {existing[dataset]} problems, the study asks for "
                f"{wanted[dataset]}; give the study's datasets other names"
            )
    if wanted.keys() - existing.keys():
        import_demo_problems(database, recipe, study.document.iterations)


def advance(database: Database, study: Study, at_once: int) -> dict[str, RunState]:
    """Enqueue runs and iterations until `at_once` runs are under way; return the states of all runs.

    Calling it again enqueues nothing twice. Raise ConflictError if a run of that name has another recipe.
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


def check_runs(database: Database, study: Study, models_folder: Path) -> None:
    """Raise ConflictError if a run of the study has another recipe, or the place of a new one is taken."""
    with database.begin() as connection:
        stored = {run.name: run.recipe for run in runs.list_runs(connection)}
    for run in study.runs:
        if run.name not in stored:
            check_free(models_folder / run.name)
        if run.name in stored and stored[run.name] != run.recipe:
            raise ConflictError(
                f"run {run.name!r} is there with another recipe, and runs never change; "
                "undo the change of the study file, or give the study another name"
            )


def finished(study: Study, states: dict[str, RunState]) -> bool:
    """Tell whether every run has all its iterations."""
    return all(run_finished(study, run, states) for run in study.runs)


def run_finished(study: Study, run: StudyRun, states: dict[str, RunState]) -> bool:
    """Tell whether a run has all its iterations."""
    return run.name in states and states[run.name].done >= study.document.iterations


def stuck_runs(study: Study, states: dict[str, RunState]) -> list[str]:
    """Return the runs that are held or that failed jobs hold up, once no other run can move."""
    moving = any(state.under_way and not state.stuck for state in states.values())
    waiting = any(run.name not in states for run in study.runs)
    if moving or waiting:
        return []
    return [name for name, state in states.items() if state.stuck]


def complete_seeds(study: Study, states: dict[str, RunState]) -> list[int]:
    """Return the seeds under which every strategy is finished: only these are compared."""
    return [
        seed for seed in study.seeds if all(run_finished(study, run, states) for run in study.of_seed(seed))
    ]


def queues(database: Database, states: dict[str, RunState]) -> dict[str, list[QueueState]]:
    """Load the queues of the runs that are under way, by run."""
    with database.begin() as connection:
        return {
            name: progress.queue_states(connection, runs.find_run(connection, name).id)
            for name, state in states.items()
            if state.under_way
        }


def _states(database: Database, study: Study) -> dict[str, RunState]:
    with database.begin() as connection:
        return studies.run_states(connection, [run.name for run in study.runs])


def _enqueue(database: Database, run: StudyRun, iterations: int) -> None:
    try:
        with database.begin() as connection:
            stored = runs.find_run(connection, run.name)
    except NotFoundError:
        stored = create_run(database, run.recipe, run.name)
    start_iterations(database, stored, iterations, keep_going=True)
