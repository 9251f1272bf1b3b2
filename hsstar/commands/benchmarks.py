"""Import benchmarks, and check those that a recipe names."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.data.benchmarks import content_fingerprint, find_file, read_benchmark
from hsstar.domain.benchmarks import BENCHMARKS, Benchmark
from hsstar.domain.contamination import OverlapCount
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.problems import Problem
from hsstar.domain.suggestions import did_you_mean
from hsstar.domain.verification import MATH, KindSettings
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.store import contamination, datasets
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier, VerificationRequest
from hsstar.verifier.kinds import make_verifier

_BATCH = 500


@dataclass(frozen=True, slots=True)
class ImportedBenchmark:
    """A benchmark in the database."""

    name: str  # what `evaluation.benchmarks` calls it; a part of a benchmark has its own
    problems: int
    unreadable: int  # problems whose reference answer cannot be read
    overlaps: tuple[OverlapCount, ...] = ()  # training problems that overlap it, if it is new


def check_benchmark(connection: Connection, section: BenchmarkSection) -> None:
    """Raise NotFoundError unless a benchmark is imported, BadInputError if it has too few problems."""
    if section.name in BENCHMARKS and datasets.benchmark_fingerprint(connection, section.dataset) is None:
        raise NotFoundError(
            f"benchmark {section.name!r} has not been imported; "
            f"import it: hsstar benchmarks import {section.name} --data FOLDER"
        )
    imported = {dataset.name for dataset in datasets.list_datasets(connection)}
    if section.name not in {*BENCHMARKS, *imported}:
        raise NotFoundError(
            f"there is neither a benchmark nor a dataset {section.name!r} "
            f"(benchmarks: {', '.join(BENCHMARKS)}){did_you_mean(section.name, {*BENCHMARKS, *imported})}"
        )
    dataset, wanted = datasets.find_dataset(connection, section.dataset), section.problems or 1
    if dataset.problems < wanted:
        raise BadInputError(f"{section.name} holds {dataset.problems} problems, and {wanted} are asked for")


def ensure_imported(
    database: Database,
    benchmark: Benchmark,
    source: Path | None,  # its file or a folder of files; None takes what is imported, else asks the hub
    *,
    partial: bool = False,  # a file with another number of problems becomes a dataset of its own
    progress: Callable[[int], None] | None = None,
    verification: KindSettings = MATH,  # of which kind its references are
) -> ImportedBenchmark:
    """Import a benchmark, unless the database has it; `progress` gets the number of references read so far.

    Raises:
        BadInputError: the file is missing, broken, or has the wrong number of problems.
        ConflictError: the benchmark was imported with other statements or answers before.
    """
    if source is None:
        with database.begin() as connection:
            if datasets.benchmark_fingerprint(connection, benchmark.dataset) is not None:
                return _imported(connection, benchmark.name, benchmark.dataset)
    problems = read_benchmark(benchmark, find_file(benchmark, source), partial=partial)
    fingerprint = content_fingerprint(problems)
    whole = len(problems) == benchmark.problems
    dataset = benchmark.dataset if whole else f"{benchmark.dataset}-part-{fingerprint[:8]}"
    name = benchmark.name if whole else dataset
    with database.begin() as connection:
        known = datasets.benchmark_fingerprint(connection, dataset)
        if known == fingerprint:
            return _imported(connection, name, dataset)
        if known is not None:
            raise ConflictError(
                f"{benchmark.title} is there already, and {source} has other statements or answers; "
                "leave out --data to use what is there"
            )
    readable = _check_references(problems, progress, verification)
    with database.begin() as connection:
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, problems, readable)
        datasets.mark_benchmark(connection, dataset_id, benchmark.name, fingerprint)
        others = [other for other in contamination.training_datasets(connection) if other != dataset_id]
        overlaps = contamination.find_overlaps(connection, others, [dataset_id])
    return ImportedBenchmark(name, len(problems), readable.count(False), tuple(overlaps))


def _imported(connection: Connection, name: str, dataset: str) -> ImportedBenchmark:
    stored = datasets.find_dataset(connection, dataset)
    return ImportedBenchmark(name, stored.problems, stored.unreadable)


def _check_references(
    problems: Sequence[Problem], progress: Callable[[int], None] | None, verification: KindSettings
) -> list[bool]:
    requests = [
        VerificationRequest("", problem.reference, problem=problem.statement, source_id=problem.source_id)
        for problem in problems
    ]
    readable: list[bool] = []
    with closing(make_verifier(verification)) as verifier:
        for start in range(0, len(requests), _BATCH):
            batch = requests[start : start + _BATCH]
            if isinstance(verifier, MathVerifier):
                readable += verifier.check_references([request.reference for request in batch])
            else:
                readable += [kind.is_usable for kind in verifier.examine(batch)]
            if progress is not None:
                progress(len(readable))
    return readable
