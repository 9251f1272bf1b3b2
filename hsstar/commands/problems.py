"""Import problems."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from hsstar.data.files import read_problems
from hsstar.domain.benchmarks import is_benchmark_dataset
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.store import (
    contamination,
    datasets,
)
from hsstar.store.contamination import OverlapCount
from hsstar.store.database import Database
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


def _batches(problems: Iterable[Problem]) -> Iterable[list[Problem]]:
    remaining = iter(problems)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
