"""Import problems, delete a dataset, and count what datasets hold."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import IO, TypeVar

from hsstar.commands.references import ReferenceReport, examine, same_references
from hsstar.data.bad_rows import NOTHING_LEFT
from hsstar.data.files import ProblemFiles
from hsstar.data.gym import refuse_as_mathematics
from hsstar.domain.benchmarks import is_benchmark_dataset
from hsstar.domain.contamination import OverlapCount
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.problems import Problem
from hsstar.domain.verification import MATH, KindSettings
from hsstar.store import contamination, datasets, problem_import
from hsstar.store.database import Database
from hsstar.store.problem_import import ReferenceConflict
from hsstar.verifier import Verifier
from hsstar.verifier.kinds import make_verifier

T = TypeVar("T")
R = TypeVar("R")

_BATCH = 1_000
_BATCHES_AHEAD = 3
"""So many batches are read while the checking processes work on an earlier one."""

_BYTES_IN_MEMORY = 16_000_000
"""A larger file of problems is kept on disk between its verification and the transaction."""

_MOST_CONFLICTS = 10_000


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What an import accepts beyond the usual."""

    allow_unreadable: bool = False  # import a file most of whose references cannot be used
    replace: bool = False  # give stored problems the references of the file
    skip_doubtful: bool = False  # leave out problems against which their source itself speaks
    verification: KindSettings = MATH  # of which kind the references are


@dataclass
class ImportReport:
    """What an import found."""

    references: ReferenceReport = field(default_factory=ReferenceReport)
    imported: int = 0  # problems that are new to the dataset
    replaced: int = 0  # stored problems that got another reference
    runs: list[str] = field(default_factory=list)  # that have problems whose references were replaced
    doubtful: int = 0  # problems against which their source speaks, such as `problem_is_valid`: No
    first_doubt: str = ""
    conflicts: list[ReferenceConflict] = field(default_factory=list)
    overlaps: list[OverlapCount] = field(default_factory=list)  # with which benchmarks, how many

    @property
    def read(self) -> int:
        """Problems in the files."""
        return self.references.read

    @property
    def duplicates(self) -> int:
        """Problems that the file or the dataset held already."""
        return self.read - self.imported


def import_problems(
    database: Database,
    files: ProblemFiles,
    dataset: str,
    options: ImportOptions | None = None,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import all problems of some files into a dataset, created if it is missing; or none.

    First the verifier examines every reference answer, which takes most of the time; `progress` is called
    with the number of problems examined so far. Then one transaction writes the problems. Memory stays
    bounded: what is examined waits in a temporary file.

    Raise BadInputError if the name is reserved, a file cannot be read, most references cannot be used, or the
    disk is full.
    """
    if dataset == "none" or is_benchmark_dataset(dataset):
        raise BadInputError(f"the dataset name {dataset!r} is kept for hsstar; choose another one")
    options, report = options or ImportOptions(), ImportReport()
    if options.verification == MATH:
        refuse_as_mathematics(files.paths)
    with closing(make_verifier(options.verification)) as verifier:
        try:
            with SpooledTemporaryFile(_BYTES_IN_MEMORY) as spool:
                _examine(verifier, _kept(files, options, report), spool, report.references, progress)
                if not report.references.read:
                    raise BadInputError(NOTHING_LEFT)
                if not options.allow_unreadable:
                    report.references.refuse_unusable()
                spool.seek(0)
                _write(database, dataset, spool, options, report)
        except OSError as error:
            raise BadInputError(f"cannot keep the problems in a temporary file: {error}") from None
        report.conflicts = _different(verifier, report.conflicts)
    return report


def delete_dataset(database: Database, name: str, *, force: bool = False, dry_run: bool = False) -> int:
    """Delete a dataset with its problems; return how many problems it has.

    Raise ConflictError if samples of its problems exist, also with `force`, and if a run names it, unless
    `force`. Raise NotFoundError without such a dataset.
    """
    with database.begin() as connection:
        dataset = datasets.find_dataset(connection, name)
        use = datasets.use_of_dataset(connection, dataset)
        if use.rounds:
            raise ConflictError(
                f"dataset {name!r} is used by {', '.join(use.rounds)}, whose samples belong to its problems, "
                "or will; no option deletes samples"
            )
        if use.recipes and not force:
            raise ConflictError(
                f"the recipes of {', '.join(use.recipes)} name dataset {name!r}, "
                "though no sample belongs to it yet; --force deletes it"
            )
        if not dry_run:
            datasets.delete_dataset(connection, dataset)
    return dataset.problems


def usable_problems(database: Database) -> dict[str, int]:
    """Return how many problems of each dataset iterations and evaluations may take, by name."""
    with database.begin() as connection:
        return {dataset.name: dataset.usable for dataset in datasets.list_datasets(connection)}


def _kept(files: Iterable[Problem], options: ImportOptions, report: ImportReport) -> Iterator[Problem]:
    """Count the problems against which their source speaks, and leave them out if that is wanted."""
    for problem in files:
        if problem.doubt is not None:
            report.doubtful += 1
            report.first_doubt = report.first_doubt or problem.doubt
            if options.skip_doubtful:
                continue
        yield problem


def _examine(
    verifier: Verifier,
    problems: Iterable[Problem],
    spool: IO[bytes],
    report: ReferenceReport,
    progress: Callable[[int], None] | None,
) -> None:
    """Write each problem to the spool, as a line to copy, with whether its reference answer can be used."""
    with ThreadPoolExecutor(_BATCHES_AHEAD, "references") as threads, _closed_on_error(verifier):
        for examined in _ahead(threads, partial(examine, verifier), _batches(problems)):
            for problem, kind, from_sentence in examined:
                report.add(problem, kind, from_sentence=from_sentence)
                spool.write(problem_import.copied_line(report.read, problem, kind.is_usable))
            if progress is not None:
                progress(report.read)


@contextmanager
def _closed_on_error(verifier: Verifier) -> Iterator[None]:
    """Close the verifier when the block fails or is interrupted, so that no thread works to its end."""
    try:
        yield
    except BaseException:
        verifier.close()
        raise


def _ahead(threads: ThreadPoolExecutor, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results of work on items, in order; a few items are begun before a result is awaited."""
    begun: deque[Future[R]] = deque()
    for item in items:
        begun.append(threads.submit(work, item))
        if len(begun) >= _BATCHES_AHEAD:
            yield begun.popleft().result()
    while begun:
        yield begun.popleft().result()


def _write(
    database: Database, dataset: str, lines: IO[bytes], options: ImportOptions, report: ImportReport
) -> None:
    with database.begin() as connection:
        newest = datasets.newest_problem(connection)
        dataset_id = datasets.ensure_dataset(connection, dataset)
        problem_import.copy_problems(connection, lines)
        report.conflicts = problem_import.conflicting_references(connection, dataset_id, _MOST_CONFLICTS)
        if options.replace:
            replaced = problem_import.replace_references(connection, dataset_id)
            report.replaced = len(replaced)
            report.runs = problem_import.runs_with_problems(connection, replaced)
        report.imported = problem_import.add_copied_problems(connection, dataset_id)
        measured = [other for other in contamination.evaluation_datasets(connection) if other != dataset_id]
        report.overlaps = contamination.find_overlaps(connection, [dataset_id], measured, newest)


def _different(verifier: Verifier, conflicts: list[ReferenceConflict]) -> list[ReferenceConflict]:
    """Return the conflicts whose two references do not mean the same."""
    pairs = [(conflict.statement, conflict.other, conflict.kept) for conflict in conflicts]
    same = same_references(verifier, pairs)
    return [conflict for conflict, is_same in zip(conflicts, same, strict=True) if not is_same]


def _batches(items: Iterable[T]) -> Iterator[list[T]]:
    remaining = iter(items)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
