"""Import samples, and export pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hsstar.commands.runs import refuse_new_policies, refuse_unfinished, refuse_without_problems
from hsstar.data.files import read_imported_samples
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedSamples
from hsstar.engines.prompts import prompt_renderer
from hsstar.store import (
    datasets,
    models,
    rounds,
    samples,
)
from hsstar.store.database import Database, lock_run
from hsstar.store.read import exports
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier


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
        refuse_without_problems(run)
        known = rounds.list_iterations(connection, run.id)
        refuse_unfinished(run, known)
        refuse_new_policies(run, [len(known)])
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, [entry.problem for entry in given], readable)
        ids = datasets.problem_ids(connection, dataset_id, keys)
        rounds.add_iterations(connection, run, [len(known)])
        founded = rounds.list_iterations(connection, run.id)[-1].round
        rounds.assign_problems(connection, founded.id, [ids[key] for key in keys], wanted)
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
