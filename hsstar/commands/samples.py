"""Import samples that were drawn elsewhere."""

from dataclasses import dataclass, replace
from pathlib import Path

from hsstar.commands.runs import (
    next_iteration,
    refuse_held,
    refuse_new_policies,
    refuse_unfinished,
    refuse_without_problems,
)
from hsstar.data.mapping import NO_MAP, ColumnMap
from hsstar.data.sample_layouts import group_samples
from hsstar.data.samples import digest_of, read_sample_rows
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.problems import ImportedSamples, Problem
from hsstar.store import datasets, rounds, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier


@dataclass(frozen=True, slots=True)
class SampleImportReport:
    """What an import of samples found."""

    iteration: int  # the number of the new iteration
    problems: int
    imported: int  # samples that became pre-samples
    surplus: int  # responses beyond `n_p` per problem, left out
    conflicts: tuple[str, ...]  # statements with several reference answers, each with the one that counts


def import_samples(
    database: Database, run: Run, path: Path, dataset: str, mapping: ColumnMap = NO_MAP
) -> SampleImportReport:
    """Add an iteration whose pre-samples are responses drawn elsewhere.

    The problems of the file become the slice of the iteration (and join `dataset`, whose own reference
    answers count). Responses beyond `n_p` per problem are left out; if a problem has fewer, the workers draw
    the rest.

    Raises:
        BadInputError: the file cannot be read, or the dataset lacks a problem or reference that it needs.
        ConflictError: an iteration of the run has the samples of this file already.
    """
    rows = list(read_sample_rows(path, mapping))
    digest = digest_of(rows)
    entries, conflicts = _resolved(database, path, rows, dataset)
    keys = [entry.problem.key for entry in entries]
    with MathVerifier() as verifier:
        readable = verifier.check_references([entry.problem.reference for entry in entries])
    wanted = run.recipe.sampling.budget.pre_samples
    with database.begin() as connection:
        lock_run(connection, run.id)
        refuse_held(connection, run)
        refuse_without_problems(run)
        if (earlier := rounds.find_import(connection, run.id, digest)) is not None:
            raise ConflictError(
                f"{path}: these samples are those of iteration {earlier[0]} of {run.name!r} already "
                f"(imported from {earlier[1]}); a run takes samples once"
            )
        known = rounds.list_iterations(connection, run.id)
        refuse_unfinished(run, known)
        number = next_iteration(run, known)
        refuse_new_policies(run, [number])
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, [entry.problem for entry in entries], readable)
        ids = datasets.problem_ids(connection, dataset_id, keys)
        rounds.add_iterations(connection, run, [number])
        added = rounds.list_iterations(connection, run.id)[-1].round
        rounds.note_import(connection, added.id, path.name, digest)
        rounds.assign_problems(connection, added.id, [ids[key] for key in keys], wanted)
        bad = [ids[key] for key, fine in zip(keys, readable, strict=True) if not fine]
        rounds.exclude(connection, added.id, dict.fromkeys(bad, "the reference answer cannot be read"))
        drawn = _as_samples(entries, ids, wanted)
        samples.write_samples(connection, added.id, None, f"import:{path.name}", drawn)
    return SampleImportReport(
        added.number,
        len(entries),
        len(drawn),
        sum(max(0, len(entry.responses) - wanted) for entry in entries),
        conflicts,
    )


def _resolved(
    database: Database, path: Path, rows: list[ImportedSamples], dataset: str
) -> tuple[list[ImportedSamples], tuple[str, ...]]:
    """Return the samples by problem, complete by what the dataset knows, and the conflicts of references."""
    keys = [row.problem.key for row in rows if row.problem.statement]
    names = [row.problem.source_id for row in rows if row.problem.source_id and not row.problem.statement]
    keys += names  # a name may be the key of an exported problem
    with database.begin() as connection:
        known = _Known(datasets.find_problems(connection, dataset, keys, names))
    statements: dict[str, str] = {}
    references: dict[str, list[str]] = {}
    complete: list[ImportedSamples] = []
    for row in rows:
        problem, stored = row.problem, known.find(row.problem)
        if not problem.statement:
            if stored is None:
                raise BadInputError(
                    f"{path}: {problem.source_id!r} names no problem of dataset {dataset!r}; "
                    "names are those of the problems' id column"
                )
            problem = replace(problem, statement=stored.statement)
        answers = references.setdefault(problem.key, [])
        candidates = (stored.reference_answer if stored else "", problem.reference)
        answers += [answer for answer in dict.fromkeys(candidates) if answer and answer not in answers]
        if not answers:
            raise BadInputError(
                f"{path}: no reference answer for {problem.statement[:60]!r}, nor in dataset {dataset!r}; "
                "import the problems first, or name the column: --map reference=KEY"
            )
        statements[problem.key] = problem.statement
        complete.append(replace(row, problem=replace(problem, reference=answers[0])))
    conflicts = tuple(
        f"{statements[key][:60]!r}: {answers[0]} counts, not {', '.join(answers[1:])}"
        for key, answers in references.items()
        if len(answers) > 1
    )
    return list(group_samples(complete)), conflicts


class _Known:
    """The problems of a dataset that samples name."""

    def __init__(self, problems: list[datasets.KnownProblem]) -> None:
        self._by_key = {problem.key: problem for problem in problems}
        self._by_name = {problem.source_id: problem for problem in reversed(problems)}  # of equals the first

    def find(self, problem: Problem) -> datasets.KnownProblem | None:
        """Return the problem with this statement; without a statement that with this name or key."""
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
