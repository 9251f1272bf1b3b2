"""Responses that were drawn elsewhere, measured on benchmarks; the workers verify them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.commands.benchmarks import check_benchmark
from hsstar.commands.evaluation_run import EvaluationRun, ensure_run
from hsstar.data.samples import SampleFiles
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.problems import ImportedResponse
from hsstar.domain.text import content_key
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.store import datasets, evaluations, models, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.runs import Run

_KEY_SUFFIX = "given responses"
"""What an evaluation key says in place of a decoding."""

_LOCATION_PREFIX = "responses:"
"""Begins the location of a model that is known by its responses alone."""

Rows = list[tuple[ImportedResponse, ...]]
"""The rows of a file with the same statement, each with its responses."""


@dataclass(frozen=True, slots=True)
class ExternalResponsesReport:
    """What became of a file of responses."""

    run: EvaluationRun  # where they are measured
    imported: dict[str, int]  # responses that became samples, by benchmark
    missing: dict[str, int]  # problems without a response, by benchmark
    unmatched: int  # responses to problems of none of the benchmarks


def import_responses(
    database: Database, name: str, files: SampleFiles, benchmarks: Sequence[BenchmarkSection], *, strict: bool
) -> ExternalResponsesReport:
    """Make the responses of a file the samples of an evaluation; the workers verify them.

    A response belongs to the problem with its statement. If several problems of a benchmark have the same
    statement, and the file as many rows, each gets one row in order; else each gets all rows. Problems
    without a response count as not solved. The same file under the same name is imported once. A benchmark
    without any response is refused if `strict`, else left out.

    Raises:
        BadInputError: the file cannot be read, or holds no response to a problem of these benchmarks.
        ConflictError: the name stands for a policy or for other responses.
    """
    by_key = _read_by_statement(files)
    parts: list[_Part] = []
    with database.begin() as connection:
        model = _register(connection, name, files.paths[0], _fingerprint(by_key))
        run = _ensure_run(connection, model)
        lock_run(connection, run.id)
        for section in benchmarks:
            part = _match(connection, section, by_key)
            if part.responses:
                _add_evaluation(connection, run, model, part, f"import:{files.name}")
                parts.append(part)
            elif strict:
                raise BadInputError(f"{files.place} holds no response to a problem of {section.name}")
        if not parts:
            raise BadInputError(f"{files.place} holds no response to a problem of these benchmarks")
    matched = {part.keys[problem] for part in parts for problem in part.responses}
    return ExternalResponsesReport(
        _evaluation_run(run, model, [part.section for part in parts]),
        {part.section.name: sum(map(len, part.responses.values())) for part in parts},
        {part.section.name: len(part.keys) - len(part.responses) for part in parts},
        sum(len(row) for key, rows in by_key.items() if key not in matched for row in rows),
    )


def find_responses(connection: Connection, name: str) -> models.Model | None:
    """Find the model of this name if it is known by responses alone."""
    model = {model.name: model for model in models.list_models(connection)}.get(name)
    return model if model is not None and model.location.startswith(_LOCATION_PREFIX) else None


def find_external_run(
    database: Database, model: models.Model, benchmarks: Sequence[BenchmarkSection]
) -> EvaluationRun:
    """Find the evaluations of responses imported before; raise NotFoundError if a benchmark has none."""
    with database.begin() as connection:
        run = _ensure_run(connection, model)
        for section in benchmarks:
            if evaluations.find_evaluation(connection, run.id, model.id, _evaluation_key(section)) is None:
                raise NotFoundError(
                    f"{model.name!r} is known by given responses alone, and there are none for "
                    f"{section.name}; import them: hsstar evaluate {model.name} --responses FILE"
                )
    return _evaluation_run(run, model, benchmarks)


def _ensure_run(connection: Connection, model: models.Model) -> Run:
    return ensure_run(connection, PolicySection(model=model.name), model, seed=0)


def _evaluation_run(run: Run, model: models.Model, benchmarks: Sequence[BenchmarkSection]) -> EvaluationRun:
    parts = tuple((section.name, _evaluation_key(section)) for section in benchmarks)
    return EvaluationRun(run, model.name, parts)


def _evaluation_key(section: BenchmarkSection) -> str:
    return f"{section.name}, {_KEY_SUFFIX}"


def _read_by_statement(files: SampleFiles) -> dict[str, Rows]:
    by_key: dict[str, Rows] = {}
    for entry in files.by_problem():
        by_key.setdefault(_known_by(entry.problem.statement, entry.problem.source_id), []).append(
            entry.responses
        )
    return by_key


def _known_by(statement: str, name: str | None) -> str:
    return content_key(statement) if statement else f"name:{name}"


@dataclass(frozen=True, slots=True)
class _Part:
    """What a file holds of one benchmark."""

    section: BenchmarkSection
    dataset_id: int
    keys: dict[int, str]  # by problem id, the key of its statement, or its name where the file has names
    responses: dict[int, list[ImportedResponse]]  # by problem id, for those problems that have any


def _match(connection: Connection, section: BenchmarkSection, by_key: Mapping[str, Rows]) -> _Part:
    check_benchmark(connection, section)
    dataset = datasets.find_dataset(connection, section.dataset)
    keys = datasets.statement_keys(connection, dataset.id)
    names = datasets.source_ids(connection, dataset.id)
    for problem, key in list(keys.items()):  # a file that names problems does so by their keys or ids
        for name in (_known_by("", key), _known_by("", names.get(problem))):
            if name in by_key:
                keys[problem] = name
    return _Part(section, dataset.id, keys, _distribute(by_key, keys))


def _distribute(by_key: Mapping[str, Rows], keys: Mapping[int, str]) -> dict[int, list[ImportedResponse]]:
    """The responses of each problem that has any; `keys` names the statement of each problem."""
    same_statement: dict[str, list[int]] = {}
    for problem, key in keys.items():
        same_statement.setdefault(key, []).append(problem)
    distributed: dict[int, list[ImportedResponse]] = {}
    for key, problems in same_statement.items():
        rows = by_key.get(key, [])
        for place, problem in enumerate(problems):
            own = [rows[place]] if len(rows) == len(problems) else rows
            distributed[problem] = [response for row in own for response in row]
    return {problem: responses for problem, responses in distributed.items() if responses}


def _add_evaluation(connection: Connection, run: Run, model: models.Model, part: _Part, worker: str) -> None:
    evaluation_key = _evaluation_key(part.section)
    if evaluations.find_evaluation(connection, run.id, model.id, evaluation_key) is not None:
        return
    plan = evaluations.EvaluationSpec(
        evaluation_key, part.dataset_id, max(map(len, part.responses.values())), None
    )
    added = evaluations.add_evaluation(connection, run.id, 0, model.id, plan)
    evaluations.assign_all_problems(connection, added.id, part.dataset_id, None, plan.samples)
    counts = {problem: len(responses) for problem, responses in part.responses.items()}
    drawn = [
        samples.DrawnSample(
            problem,
            slot,
            response.text,
            finish_reason=response.finish_reason,
            cumulative_logprob=response.cumulative_logprob,
        )
        for problem in evaluations.fit_to_responses(connection, added.id, counts)
        for slot, response in enumerate(part.responses[problem])
    ]
    samples.write_samples(connection, added.id, model.id, worker, drawn)


def _register(connection: Connection, name: str, path: Path, fingerprint: str) -> models.Model:
    known = {model.name: model for model in models.list_models(connection)}.get(name)
    if known is None:
        location = f"{_LOCATION_PREFIX}{path.expanduser().resolve()}"
        return models.register_model(connection, name, location, fingerprint)
    if not known.location.startswith(_LOCATION_PREFIX):
        raise ConflictError(f"{name!r} is a policy ({known.location}); give the responses another name")
    if known.fingerprint != fingerprint:
        raise ConflictError(f"{name!r} stands for other responses ({known.location}); give another name")
    return known


def _fingerprint(by_key: Mapping[str, Rows]) -> str:
    content = json.dumps(
        {key: [[asdict(response) for response in row] for row in rows] for key, rows in by_key.items()},
        sort_keys=True,
    )
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
