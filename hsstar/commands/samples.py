"""Import samples, and export pairs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from hsstar.commands.runs import (
    refuse_held,
    refuse_new_policies,
    refuse_unfinished,
    refuse_without_problems,
)
from hsstar.data.files import read_imported_samples
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedSamples
from hsstar.engines.prompts import prompt_renderer
from hsstar.store import datasets, models, rounds, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.read import exports
from hsstar.store.runs import Run
from hsstar.verifier import MathVerifier


@dataclass(frozen=True, slots=True)
class SampleImportReport:
    """What an import of samples found."""

    iteration: int  # the number of the new iteration
    problems: int
    imported: int  # samples that became pre-samples
    surplus: int  # responses beyond `n_p` per problem, left out


def import_samples(database: Database, run: Run, path: Path, dataset: str) -> SampleImportReport:
    """Add an iteration whose pre-samples are responses drawn elsewhere.

    The problems of the file become the slice of the iteration (and join `dataset`). Responses beyond
    `n_p` per problem are left out; if a problem has fewer, the workers draw the rest.
    """
    entries = list(read_imported_samples(path))
    keys = [entry.problem.key for entry in entries]
    if len(set(keys)) < len(keys):
        raise BadInputError(f"{path}: a problem stands there more than once; put its responses together")
    with MathVerifier() as verifier:
        readable = verifier.check_references([entry.problem.reference for entry in entries])
    wanted = run.recipe.sampling.budget.pre_samples
    with database.begin() as connection:
        lock_run(connection, run.id)
        refuse_held(connection, run)
        refuse_without_problems(run)
        known = rounds.list_iterations(connection, run.id)
        refuse_unfinished(run, known)
        refuse_new_policies(run, [len(known)])
        dataset_id = datasets.ensure_dataset(connection, dataset)
        datasets.add_problems(connection, dataset_id, [entry.problem for entry in entries], readable)
        ids = datasets.problem_ids(connection, dataset_id, keys)
        rounds.add_iterations(connection, run, [len(known)])
        added = rounds.list_iterations(connection, run.id)[-1].round
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
    )


def export_pairs(connection: Connection, run: Run) -> Iterator[dict[str, Any]]:
    """Return the preference pairs of a run with the prompts that its policy is trained on."""
    policy = models.get_model(connection, run.model_id)
    return exports.export_pairs(connection, run, prompt_renderer(run.recipe.policy.prompt, policy.location))


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
