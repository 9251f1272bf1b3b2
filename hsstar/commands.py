"""What a user can ask for, one function each: the CLI and the tests call these.

Each writes its rows in one transaction, or nothing. Workers see new work within seconds, by the rows.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hsstar.checkpoints.resolve import check_policy, check_reward_model, fingerprint
from hsstar.data.files import read_imported_samples, read_problems
from hsstar.domain.benchmarks import BENCHMARKS, is_benchmark_dataset
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.lifecycle import IterationState
from hsstar.domain.problems import ImportedSamples, Problem, ProblemFormat
from hsstar.engines.prompts import check_end_of_text, prompt_renderer
from hsstar.engines.registry import check_sampler_options
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import Recipe
from hsstar.store import (
    contamination,
    datasets,
    missing,
    models,
    rounds,
    runs,
    samples,
)
from hsstar.store.contamination import OverlapCount
from hsstar.store.database import Database, lock_run
from hsstar.store.read import exports
from hsstar.store.rounds import Iteration
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier

_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class UnreadableReference:
    """A problem whose reference answer cannot be read.

    Attributes:
        number: its place among the problems of the file, from 1.
        reference: the reference answer.
    """

    number: int
    reference: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import found.

    Attributes:
        read: problems in the file.
        imported: those that are new to the dataset.
        unreadable: what cannot be read; these problems are kept, and left out of training and evaluation.
        overlaps: how many problems of the dataset overlap which benchmark.
    """

    read: int
    imported: int
    unreadable: tuple[UnreadableReference, ...]
    overlaps: tuple[OverlapCount, ...]

    @property
    def duplicates(self) -> int:
        """Problems that the file or the dataset held already."""
        return self.read - self.imported


def import_problems(
    database: Database,
    path: Path,
    problem_format: ProblemFormat,
    dataset: str,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Imports the problems of a file into a dataset, made where it is missing.

    Every reference answer is read once by the verifier, which takes the time of a large import.
    `progress` is told the number of problems so far.
    """
    if dataset == "none" or is_benchmark_dataset(dataset):
        raise BadInputError(f"the dataset name {dataset!r} is kept for hsstar; choose another one")
    read, imported, unreadable = 0, 0, list[UnreadableReference]()
    verifier = MathVerifier()
    try:
        with database.begin() as connection:
            newest = datasets.newest_problem(connection)
            dataset_id = datasets.ensure_dataset(connection, dataset)
            for batch in _batches(read_problems(path, problem_format)):
                readable = verifier.check_references([problem.reference for problem in batch])
                unreadable += [
                    UnreadableReference(number, problem.reference)
                    for number, (problem, fine) in enumerate(zip(batch, readable, strict=True), read + 1)
                    if not fine
                ]
                read += len(batch)
                if progress is not None:
                    progress(read)
                imported += datasets.add_problems(connection, dataset_id, batch, readable)
            measured = [each for each in contamination.evaluation_datasets(connection) if each != dataset_id]
            found = contamination.find_overlaps(connection, [dataset_id], measured, newest)
    finally:
        verifier.close()
    return ImportReport(read, imported, tuple(unreadable), tuple(found))


def add_model(database: Database, name: str, location: str) -> models.Model:
    """Registers a policy checkpoint under a name, after looking at its files.

    Raises:
        CheckpointError: it is missing, broken or no policy.
        ConflictError: the name stands for other weights.
    """
    lasting = _lasting(location)
    check_policy(lasting)
    with database.begin() as connection:
        return models.register_model(connection, name, lasting, fingerprint(lasting))


@dataclass(frozen=True, slots=True)
class CheckedPolicy:
    """A policy that a recipe names, under the name that it is registered by."""

    name: str
    location: str
    fingerprint: str


def check_recipe_policy(database: Database, policy: PolicySection) -> CheckedPolicy:
    """Looks at everything that `[policy]` names.

    Raises:
        CheckpointError: the checkpoint is missing or broken, or has no chat template to use.
        BadInputError: the engine does not know an option.
    """
    with database.begin() as connection:
        registered = {model.name: model for model in models.list_models(connection)}
    name = _lasting(policy.model)
    known = registered.get(name)
    location = known.location if known else name
    check_policy(location)
    check_sampler_options(policy.engine, policy.engine_options)
    prompt_renderer(policy.prompt, location)
    mark = fingerprint(location)
    if known and known.location == known.name and known.fingerprint != mark:
        name = f"{name}@{mark[:8]}"  # a place that holds other weights by now
    return CheckedPolicy(name, location, mark)


def create_run(database: Database, recipe: Recipe, name: str) -> Run:
    """Stores a run, after checking everything that it names: models, datasets, enough problems.

    Raises:
        CheckpointError: a checkpoint of the recipe is missing or broken, or has no chat template to use or no
            end-of-text token to train with.
        NotFoundError: a dataset of the recipe has not been imported.
        BadInputError: a dataset is too small for one iteration, or the engine does not know an option.
        ConflictError: the name is taken.
    """
    policy = check_recipe_policy(database, recipe.policy)
    if recipe.training.objective != "none":
        check_end_of_text(policy.location)
    name_of_reward = _lasting(recipe.reward.model)
    reward = None
    if recipe.reward.used:
        reward = check_reward_model(name_of_reward, recipe.reward.kind, recipe.reward.engine)
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, recipe.problems.dataset)
        _check_evaluation(connection, recipe)
        contamination.find_overlaps(connection, [dataset.id], _measured(connection, dataset, recipe))
        _check_slices(dataset.name, _fresh(connection, None, dataset.id, recipe), recipe, 1)
        model = models.register_model(connection, policy.name, policy.location, policy.fingerprint)
        reward_model_id = None
        if reward is not None:
            reward_model_id = models.register_reward_model(
                connection,
                name_of_reward,
                name_of_reward,
                reward.family,
                fingerprint(name_of_reward),
            ).id
        return runs.create_run(connection, name, recipe, model.id, reward_model_id)


def run_overlaps(database: Database, recipe: Recipe) -> list[OverlapCount]:
    """How many training problems of a recipe overlap what it measures policies on, as far as is known."""
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, recipe.problems.dataset)
        return contamination.count_overlaps(connection, [dataset.id], _measured(connection, dataset, recipe))


def _measured(connection: Connection, dataset: datasets.Dataset, recipe: Recipe) -> list[int]:
    """What training problems are held against; their own dataset only where the run is evaluated on it."""
    measured = contamination.evaluation_datasets(connection, recipe.evaluation.datasets)
    own = dataset.name in recipe.evaluation.datasets
    return [each for each in measured if own or each != dataset.id]


def start_iterations(database: Database, run: Run, count: int) -> list[int]:
    """Adds `count` iterations to a run; returns their numbers.

    Raises:
        ConflictError: earlier iterations are still under way, or the engine cannot load a trained policy.
        BadInputError: the dataset holds too few problems for fresh slices.
    """
    with database.begin() as connection:
        lock_run(connection, run.id)
        _refuse_without_problems(run)
        known = rounds.list_iterations(connection, run.id)
        _refuse_unfinished(run, known)
        numbers = list(range(len(known), len(known) + count))
        dataset = datasets.find_dataset(connection, run.recipe.problems.dataset)
        fresh = _fresh(connection, run.id, dataset.id, run.recipe)
        _check_slices(dataset.name, fresh, run.recipe, count)
        _refuse_new_policies(run, numbers)
        rounds.add_iterations(connection, run, numbers)
    return numbers


def accept_missing(database: Database, run: Run) -> int:
    """Lets a run go on without what its failed jobs could not do; returns how many jobs were discarded.

    Their problems are left out of their rounds, each with the reason.

    Raises:
        NotFoundError: no job of the run has failed.
    """
    with database.begin() as connection:
        lock_run(connection, run.id)
        count = missing.discard_failed(connection, run.id)
    if not count:
        raise NotFoundError(f"no job of run {run.name!r} has failed; see: hsstar status {run.name} --missing")
    return count


@dataclass(frozen=True, slots=True)
class SampleImportReport:
    """What an import of samples found.

    Attributes:
        iteration: the number of the iteration that the samples found.
        problems: its problems.
        imported: samples that became pre-samples.
        surplus: responses beyond `n_p` per problem, left out.
    """

    iteration: int
    problems: int
    imported: int
    surplus: int


def import_samples(database: Database, run: Run, path: Path, dataset: str) -> SampleImportReport:
    """Founds an iteration on responses drawn elsewhere: they become the pre-samples of their problems.

    The problems of the file become the slice of the iteration (and join `dataset`). Responses beyond
    `n_p` per problem are left out; where a problem has fewer, the rest is drawn.
    """
    given = list(read_imported_samples(path))
    keys = [entry.problem.key for entry in given]
    if len(set(keys)) < len(keys):
        raise BadInputError(f"{path}: a problem stands there more than once; put its responses together")
    verifier = MathVerifier()
    try:
        readable = verifier.check_references([entry.problem.reference for entry in given])
    finally:
        verifier.close()
    wanted = run.recipe.sampling.budget.pre_samples
    with database.begin() as connection:
        lock_run(connection, run.id)
        _refuse_without_problems(run)
        known = rounds.list_iterations(connection, run.id)
        _refuse_unfinished(run, known)
        _refuse_new_policies(run, [len(known)])
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, [entry.problem for entry in given], readable)
        ids = datasets.problem_ids(connection, dataset_id, keys)
        rounds.add_iterations(connection, run, [len(known)])
        founded = rounds.list_iterations(connection, run.id)[-1].round
        rounds.found_slice(connection, founded.id, [ids[key] for key in keys], wanted)
        bad = [ids[key] for key, fine in zip(keys, readable, strict=True) if not fine]
        rounds.exclude(connection, founded.id, dict.fromkeys(bad, "the reference answer cannot be read"))
        drawn = _as_samples(given, ids, wanted)
        samples.write_samples(connection, founded.id, None, f"import:{path.name}", drawn)
    return SampleImportReport(
        founded.number,
        len(given),
        len(drawn),
        sum(max(0, len(entry.responses) - wanted) for entry in given),
    )


def export_pairs(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """The preference pairs of a run with the prompts that its policy is trained on."""
    policy = models.get_model(connection, run.model_id)
    return exports.export_pairs(connection, run, prompt_renderer(run.recipe.policy.prompt, policy.location))


def _as_samples(given: list[ImportedSamples], ids: dict[str, int], wanted: int) -> list[samples.DrawnSample]:
    return [
        samples.DrawnSample(
            ids[entry.problem.key],
            slot,
            response.text,
            finish_reason=response.finish_reason,
            cumulative_logprob=response.cumulative_logprob,
        )
        for entry in given
        for slot, response in enumerate(entry.responses[:wanted])
    ]


def _batches(problems: Iterable[Problem]) -> Iterable[list[Problem]]:
    remaining = iter(problems)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def _lasting(location: str) -> str:
    """A location that means the same from any directory: names as they are, folders as absolute paths."""
    folder = Path(location).expanduser()
    return str(folder.resolve()) if folder.exists() else location


def _refuse_unfinished(run: Run, known: list[Iteration]) -> None:
    unfinished = [
        str(iteration.round.number) for iteration in known if iteration.state is not IterationState.DONE
    ]
    if unfinished:
        raise ConflictError(
            f"run {run.name!r} still has iterations under way ({', '.join(unfinished)}); "
            f"watch them: hsstar status {run.name}"
        )


def _refuse_new_policies(run: Run, numbers: list[int]) -> None:
    """Refuses iterations that sample from a trained policy where the engine cannot take its weights."""
    if run.recipe.policy.one_policy_only and run.recipe.training.objective != "none" and numbers[-1] > 0:
        raise ConflictError(
            f"iteration {numbers[-1]} of run {run.name!r} samples from a policy that is trained before, and "
            "policy.openai.reload = 'none' says that the server cannot load it; "
            "make a run with reload = 'vllm', or ask for one iteration"
        )


def _refuse_without_problems(run: Run) -> None:
    if not run.recipe.problems.used:
        raise ConflictError(f"run {run.name!r} only evaluates: it has no training problems")


def _fresh(connection: Connection, run_id: int | None, dataset_id: int, recipe: Recipe) -> int:
    """How many problems of a dataset iterations may still take."""
    without_overlaps = recipe.problems.overlaps == "exclude"
    return rounds.fresh_problems(connection, run_id, dataset_id, without_overlaps=without_overlaps)


def _check_slices(dataset: str, fresh: int, recipe: Recipe, count: int) -> None:
    wanted = count * recipe.problems.per_iteration
    left_out = " and that overlap no evaluation" if recipe.problems.overlaps == "exclude" else ""
    if fresh < wanted:
        raise BadInputError(
            f"dataset {dataset!r} holds {fresh} usable problems that the run has not taken yet{left_out}, "
            f"and {count} × {recipe.problems.per_iteration} are asked for; "
            "import more, or ask for fewer iterations"
        )


def _check_evaluation(connection: Connection, recipe: Recipe) -> None:
    """Refuses datasets of evaluations that are not there or too small."""
    if recipe.evaluation.dataset is not None:
        _check_heldout(datasets.find_dataset(connection, recipe.evaluation.dataset), recipe)
    for benchmark in recipe.evaluation.benchmarks:
        check_benchmark(connection, benchmark)


def check_benchmark(connection: Connection, section: BenchmarkSection) -> None:
    """Looks whether a benchmark is there, with as many problems as are asked for.

    Raises:
        NotFoundError: it has not been imported.
        BadInputError: it holds fewer problems.
    """
    if section.name in BENCHMARKS and datasets.benchmark_fingerprint(connection, section.dataset) is None:
        raise NotFoundError(
            f"benchmark {section.name!r} has not been imported; "
            f"import it: hsstar benchmarks import {section.name} --data FOLDER"
        )
    if section.name not in {*BENCHMARKS, *(each.name for each in datasets.list_datasets(connection))}:
        raise NotFoundError(
            f"there is neither a benchmark nor a dataset {section.name!r} "
            f"(benchmarks: {', '.join(BENCHMARKS)})"
        )
    dataset, wanted = datasets.find_dataset(connection, section.dataset), section.problems or 1
    if dataset.problems < wanted:
        raise BadInputError(f"{section.name} holds {dataset.problems} problems, and {wanted} are asked for")


def _check_heldout(dataset: datasets.Dataset, recipe: Recipe) -> None:
    wanted = recipe.evaluation.problems or 1
    if dataset.usable < wanted:
        raise BadInputError(
            f"dataset {dataset.name!r} holds {dataset.usable} usable problems, "
            f"and evaluation.problems asks for {wanted}"
        )
