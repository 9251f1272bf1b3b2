"""`hsstar evaluate`: benchmarks are brought in, and policies measured on them.

An evaluation of this kind has a run of its own, without training problems: its name is derived from all
that decides its samples, so that the same wish finds the same run, and nothing is drawn twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.checkpoints.resolve import check_policy
from hsstar.commands import check_benchmark, check_recipe_policy
from hsstar.data.benchmarks import content_fingerprint, find_file, read_benchmark
from hsstar.domain.benchmarks import Benchmark
from hsstar.domain.errors import ConflictError
from hsstar.domain.problems import Problem
from hsstar.evaluation.given_responses import find_given, given_results
from hsstar.evaluation.runs import Started, ensure_run, evaluation_recipe
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.store import contamination, datasets, evaluations, models
from hsstar.store.contamination import OverlapCount
from hsstar.store.database import Database, lock_run
from hsstar.verifier import MathVerifier

_BATCH = 500


@dataclass(frozen=True, slots=True)
class ImportedBenchmark:
    """A benchmark that is at hand.

    Attributes:
        name: what `evaluation.benchmarks` calls it; a part of a benchmark has a name of its own.
        problems: how many it holds.
        unreadable: those whose reference answer cannot be read.
        overlaps: training problems that overlap it, where it is new.
    """

    name: str
    problems: int
    unreadable: int
    overlaps: tuple[OverlapCount, ...] = ()


def import_benchmark(
    database: Database,
    benchmark: Benchmark,
    source: Path | None,
    *,
    partial: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportedBenchmark:
    """Brings a benchmark into the database, unless it is there.

    Args:
        database: where to.
        benchmark: which one.
        source: its file or a folder of files; None takes what is there, else what the hub has.
        partial: take a file with another number of problems than the benchmark, as a dataset of its own.
        progress: is told the number of problems whose references have been read so far.

    Raises:
        BadInputError: the file is missing, broken, or has the wrong number of problems.
        ConflictError: the benchmark was imported with other statements or answers before.
    """
    if source is None:
        with database.begin() as connection:
            if datasets.benchmark_fingerprint(connection, benchmark.dataset) is not None:
                return _at_hand(connection, benchmark.name, benchmark.dataset)
    problems = read_benchmark(benchmark, find_file(benchmark, source), partial=partial)
    mark = content_fingerprint(problems)
    whole = len(problems) == benchmark.problems
    dataset = benchmark.dataset if whole else f"{benchmark.dataset}-part-{mark[:8]}"
    name = benchmark.name if whole else dataset
    with database.begin() as connection:
        known = datasets.benchmark_fingerprint(connection, dataset)
        if known == mark:
            return _at_hand(connection, name, dataset)
        if known is not None:
            raise ConflictError(
                f"{benchmark.title} is there already, and {source} has other statements or answers; "
                "leave out --data to use what is there"
            )
    readable = _check_references(problems, progress)
    with database.begin() as connection:
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, problems, readable)
        datasets.mark_benchmark(connection, dataset_id, benchmark.name, mark)
        others = [each for each in contamination.training_datasets(connection) if each != dataset_id]
        found = contamination.find_overlaps(connection, others, [dataset_id])
    return ImportedBenchmark(name, len(problems), readable.count(False), tuple(found))


def _at_hand(connection: Connection, name: str, dataset: str) -> ImportedBenchmark:
    found = datasets.find_dataset(connection, dataset)
    return ImportedBenchmark(name, found.problems, found.unreadable)


def _check_references(problems: Sequence[Problem], progress: Callable[[int], None] | None) -> list[bool]:
    """Whether each reference answer can be read."""
    references = [problem.reference for problem in problems]
    readable: list[bool] = []
    with MathVerifier() as verifier:
        for start in range(0, len(references), _BATCH):
            readable += verifier.check_references(references[start : start + _BATCH])
            if progress is not None:
                progress(len(readable))
    return readable


def check_measurable(database: Database, name: str) -> None:
    """Refuses early what is neither a policy nor the name of given responses.

    Raises:
        CheckpointError: the checkpoint is missing, broken or no policy.
    """
    with database.begin() as connection:
        known = {model.name: model.location for model in models.list_models(connection)}
        given = find_given(connection, name)
    if given is None:
        check_policy(known.get(name, name))


def start_evaluation(
    database: Database, policy: PolicySection, benchmarks: Sequence[BenchmarkSection], seed: int
) -> Started:
    """The run that measures a policy on these benchmarks; what it lacks is added, the workers do the rest.

    Raises:
        CheckpointError: the policy is missing or broken, or has no chat template to use.
        NotFoundError: a benchmark has not been imported, or the policy is known by given responses alone.
        BadInputError: the engine does not know an option, or a dataset holds no problems.
    """
    with database.begin() as connection:
        given = find_given(connection, policy.model)
    if given is not None:
        return given_results(database, given, benchmarks)
    checked = check_recipe_policy(database, policy)
    with database.begin() as connection:
        model = models.register_model(connection, checked.name, checked.location, checked.fingerprint)
        recipe = evaluation_recipe(policy, model, seed)
        run = ensure_run(connection, recipe, model)
        lock_run(connection, run.id)
        for each in benchmarks:
            check_benchmark(connection, each)
            evaluations.ensure_benchmark(connection, run, 0, model.id, each)
    return Started(run, model.name, tuple((each.name, each.evaluation_key) for each in benchmarks))
