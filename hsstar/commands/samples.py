"""Import samples that were drawn elsewhere."""

from contextlib import closing
from dataclasses import dataclass, field, replace

from hsstar.commands.references import ReferenceReport, as_value, examine, same_references
from hsstar.commands.rewards import refuse_uncounted
from hsstar.commands.runs import (
    next_iteration,
    refuse_held,
    refuse_new_policies,
    refuse_unfinished,
    refuse_without_problems,
)
from hsstar.data.bad_rows import NOTHING_LEFT, BadRows
from hsstar.data.rows import naming
from hsstar.data.sample_layouts import group_samples
from hsstar.data.samples import SampleFiles, SampleRow, digest_of
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.problems import ImportedSamples, Problem
from hsstar.store import datasets, rounds, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier, Verifier
from hsstar.verifier.kinds import make_verifier


@dataclass
class SampleImportReport:
    """What an import of samples found."""

    iteration: int = 0  # the number of the new iteration
    problems: int = 0
    imported: int = 0  # samples that became pre-samples
    surplus: int = 0  # responses beyond `n_p` per problem, left out
    conflicts: list[str] = field(default_factory=list)  # statements with several reference answers
    references: ReferenceReport = field(default_factory=ReferenceReport)


def import_samples(
    database: Database, run: Run, files: SampleFiles, dataset: str, *, allow_unreadable: bool = False
) -> SampleImportReport:
    """Add an iteration whose pre-samples are responses drawn elsewhere.

    The problems of the files become the slice of the iteration (and join `dataset`, whose own reference
    answers count). Responses beyond `n_p` per problem are left out; if a problem has fewer, the workers draw
    the rest. All is imported, or nothing.

    Raises:
        BadInputError: a file cannot be read, the dataset lacks a problem or reference that it needs, or most
            references cannot be used, unless `allow_unreadable`.
        ConflictError: an iteration of the run has these samples already.
    """
    rows, report = list(files), SampleImportReport()
    digest = digest_of(row.samples for row in rows)
    resolved = _resolve(database, rows, dataset, files.bad)
    if not resolved.rows:
        raise BadInputError(NOTHING_LEFT)
    entries = list(group_samples(resolved.rows))
    settings = run.recipe.verification.of_dataset(dataset)
    with closing(make_verifier(settings)) as verifier:
        examined = examine(verifier, [entry.problem for entry in entries])
        report.conflicts = _conflicts(verifier, resolved)
    for problem, kind, from_sentence in examined:
        report.references.add(problem, kind, from_sentence=from_sentence)
    if not allow_unreadable:
        report.references.refuse_unusable()
    readable = [kind.is_usable for _, kind, _ in examined]
    wanted = run.recipe.sampling.budget.pre_samples
    with database.begin() as connection:
        lock_run(connection, run.id)
        refuse_held(connection, run)
        refuse_without_problems(run)
        refuse_uncounted(run.recipe)
        if (earlier := samples.find_import(connection, run.id, digest)) is not None:
            raise ConflictError(
                f"{files.place}: these samples are those of iteration {earlier[0]} of {run.name!r} already "
                f"(imported from {earlier[1]}); a run takes samples once"
            )
        known = rounds.list_iterations(connection, run.id)
        refuse_unfinished(run, known)
        report.iteration = next_iteration(run, known)
        refuse_new_policies(run, [report.iteration])
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, [problem for problem, _, _ in examined], readable)
        keys = [entry.problem.key for entry in entries]
        ids = datasets.problem_ids(connection, dataset_id, keys)
        rounds.add_iterations(connection, run, [report.iteration])
        added = rounds.list_iterations(connection, run.id)[-1].round
        samples.note_import(connection, added.id, files.name, digest)
        rounds.assign_problems(connection, added.id, [ids[key] for key in keys], wanted)
        bad = [ids[key] for key, fine in zip(keys, readable, strict=True) if not fine]
        rounds.exclude(connection, added.id, dict.fromkeys(bad, "the reference answer cannot be read"))
        drawn = _as_samples(entries, ids, wanted)
        samples.write_samples(connection, added.id, None, f"import:{files.name}", drawn)
    report.problems, report.imported = len(entries), len(drawn)
    report.surplus = sum(max(0, len(entry.responses) - wanted) for entry in entries)
    return report


@dataclass
class _Resolved:
    """The samples of the rows, completed by what a dataset knows of their problems."""

    rows: list[ImportedSamples] = field(default_factory=list)
    references: dict[str, list[str]] = field(default_factory=dict)  # by key; the first counts
    statements: dict[str, str] = field(default_factory=dict)  # by key


def _resolve(database: Database, rows: list[SampleRow], dataset: str, bad: BadRows) -> _Resolved:
    problems = [row.samples.problem for row in rows]
    keys = [problem.key for problem in problems if problem.statement]
    names = [problem.source_id for problem in problems if problem.source_id and not problem.statement]
    keys += names  # a name may be the key of an exported problem
    with database.begin() as connection:
        known = _Known(datasets.find_problems(connection, dataset, keys, names))
    resolved = _Resolved()
    stated: list[tuple[SampleRow, Problem]] = []
    for row in rows:
        with bad.left_out(), naming(row.path, row.line):
            problem, stored = known.complete(row.samples.problem, dataset)
            stated.append((row, problem))
            answers = resolved.references.setdefault(problem.key, [] if stored is None else [stored])
            if problem.reference and problem.reference not in answers:
                answers.append(problem.reference)
            resolved.statements[problem.key] = problem.statement
    for row, problem in stated:
        with bad.left_out(), naming(row.path, row.line):
            if not any(resolved.references[problem.key]):
                raise BadInputError(
                    f"no reference answer for {problem.statement[:60]!r}, nor in dataset {dataset!r}; "
                    "import the problems first, or name the column: --map reference=KEY"
                )
            complete = replace(problem, reference=resolved.references[problem.key][0])
            resolved.rows.append(replace(row.samples, problem=complete))
    return resolved


def _conflicts(verifier: Verifier, resolved: _Resolved) -> list[str]:
    """Return the reference answers that do not mean the same as the one that counts, by statement."""
    references = resolved.references
    pairs = [(key, other) for key, answers in references.items() for other in answers[1:]]
    read = as_value if isinstance(verifier, MathVerifier) else str
    compared = [(resolved.statements[key], read(other), read(references[key][0])) for key, other in pairs]
    others: dict[str, list[str]] = {}
    for (key, other), is_same in zip(pairs, same_references(verifier, compared), strict=True):
        if not is_same:
            others.setdefault(key, []).append(other)
    return [
        f"{resolved.statements[key][:60]!r}: {references[key][0] or 'no answer'} counts, "
        f"not {', '.join(different)}"
        for key, different in others.items()
    ]


class _Known:
    """The problems of a dataset that samples name."""

    def __init__(self, problems: list[datasets.KnownProblem]) -> None:
        self._by_key = {problem.key: problem for problem in problems}
        self._by_name = {problem.source_id: problem for problem in reversed(problems)}  # of equals the first

    def complete(self, problem: Problem, dataset: str) -> tuple[Problem, str | None]:
        """Return a problem with its statement, and its reference answer in the dataset, None if it lacks it.

        Raise BadInputError if the name of a problem without a statement is unknown.
        """
        stored = self._find(problem)
        if stored is None and not problem.statement:
            raise BadInputError(
                f"{problem.source_id!r} names no problem of dataset {dataset!r}; "
                "names are those of the problems' id column"
            )
        if stored is None:
            return problem, None
        return replace(problem, statement=stored.statement), stored.reference_answer

    def _find(self, problem: Problem) -> datasets.KnownProblem | None:
        if problem.statement:
            return self._by_key.get(problem.key)
        return self._by_key.get(str(problem.source_id)) or self._by_name.get(problem.source_id)


def _as_samples(
    entries: list[ImportedSamples], ids: dict[str, int], wanted: int
) -> list[samples.DrawnSample]:
    return [
        samples.DrawnSample(
            ids[entry.problem.key],
            slot,
            response.text,
            finish_reason=response.finish_reason,
            cumulative_logprob=response.cumulative_logprob,
        )
        for entry in entries
        for slot, response in enumerate(entry.responses[:wanted])
    ]
