"""Import problems, and count what datasets hold."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

from hsstar.data.files import read_problems
from hsstar.domain.benchmarks import is_benchmark_dataset
from hsstar.domain.contamination import OverlapCount
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.store import contamination, datasets
from hsstar.store.database import Database
from hsstar.verifier import MathVerifier

T = TypeVar("T")

_BATCH = 1_000
_BYTES_IN_MEMORY = 64_000_000
"""A larger file of problems is kept on disk between its verification and the transaction."""


@dataclass(frozen=True, slots=True)
class UnreadableReference:
    """A reference answer that cannot be read; `number` is its problem's place in the file, from 1."""

    number: int
    reference: str


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import found."""

    read: int  # problems in the file
    imported: int  # those that are new to the dataset
    unreadable: tuple[UnreadableReference, ...]  # their problems are kept, but never trained or evaluated
    overlaps: tuple[OverlapCount, ...]  # how many problems of the dataset overlap which benchmark

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
    """Import all problems of a file into a dataset, created if it is missing; or none.

    First the verifier reads every reference answer, which takes most of the time; `progress` is called with
    the number of problems read so far. Then one transaction writes the problems. Memory stays bounded: what
    is verified waits in a temporary file.

    Raise BadInputError if the name is reserved, the file cannot be read, or the disk is full.
    """
    if dataset == "none" or is_benchmark_dataset(dataset):
        raise BadInputError(f"the dataset name {dataset!r} is kept for hsstar; choose another one")
    try:
        with SpooledTemporaryFile(_BYTES_IN_MEMORY, "w+", encoding="ascii") as spool:
            verified = _verify(read_problems(path, problem_format), spool, progress)
            imported, overlaps = _write(database, dataset, spool)
    except OSError as error:
        raise BadInputError(f"cannot keep the problems of {path} in a temporary file: {error}") from None
    return ImportReport(verified.read, imported, tuple(verified.unreadable), tuple(overlaps))


@dataclass
class _Verified:
    read: int = 0
    unreadable: list[UnreadableReference] = field(default_factory=list)


def _verify(problems: Iterable[Problem], spool: IO[str], progress: Callable[[int], None] | None) -> _Verified:
    """Write each problem to the spool, a JSON line with whether its reference answer can be read."""
    verified = _Verified()
    with MathVerifier() as verifier:
        for batch in _batches(problems):
            readable = verifier.check_references([problem.reference for problem in batch])
            for number, (problem, fine) in enumerate(zip(batch, readable, strict=True), verified.read + 1):
                spool.write(json.dumps([asdict(problem), fine]) + "\n")
                if not fine:
                    verified.unreadable.append(UnreadableReference(number, problem.reference))
            verified.read += len(batch)
            if progress is not None:
                progress(verified.read)
    return verified


def _write(database: Database, dataset: str, spool: IO[str]) -> tuple[int, list[OverlapCount]]:
    spool.seek(0)
    imported = 0
    with database.begin() as connection:
        newest = datasets.newest_problem(connection)
        dataset_id = datasets.ensure_dataset(connection, dataset)
        for lines in _batches(spool):
            entries = [json.loads(line) for line in lines]
            problems = [Problem(**fields) for fields, _ in entries]
            imported += datasets.add_problems(connection, dataset_id, problems, [fine for _, fine in entries])
        measured = [other for other in contamination.evaluation_datasets(connection) if other != dataset_id]
        return imported, contamination.find_overlaps(connection, [dataset_id], measured, newest)


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def usable_problems(database: Database) -> dict[str, int]:
    """Return how many problems of each dataset iterations and evaluations may take, by name."""
    with database.begin() as connection:
        return {dataset.name: dataset.usable for dataset in datasets.list_datasets(connection)}
