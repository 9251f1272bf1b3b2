"""Responses that were drawn elsewhere, measured on benchmarks; the workers verify them."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Connection

from hsstar.commands.benchmarks import check_benchmark
from hsstar.commands.evaluation_run import Started, ensure_run, evaluation_recipe
from hsstar.data.files import read_imported_samples
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.problems import ImportedResponse
from hsstar.domain.text import content_key
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.store import datasets, evaluations, models, runs, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.runs import Run

GIVEN = "given responses"
"""What stands in an evaluation key in place of a decoding."""

_RESPONSES = "responses:"
"""The location of a model that is known by its responses alone begins with this."""

Rows = list[tuple[ImportedResponse, ...]]
"""The rows of a file with the same statement, each with its responses."""


@dataclass(frozen=True, slots=True)
class GivenReport:
    """What became of a file of responses.

    Attributes:
        started: where they are measured.
        imported: responses that became samples, by benchmark.
        missing: problems without a response, by benchmark.
        strangers: responses to problems of none of the benchmarks.
    """

    started: Started
    imported: dict[str, int]
    missing: dict[str, int]
    strangers: int


def given_evaluation_key(section: BenchmarkSection) -> str:
    """Names the evaluation of given responses on a benchmark."""
    return f"{section.name}, {GIVEN}"


def import_responses(
    database: Database, name: str, path: Path, benchmarks: Sequence[BenchmarkSection], *, strict: bool = True
) -> GivenReport:
    """Makes the responses of a file the samples of an evaluation; the workers verify them.

    A response belongs to the problem with its statement. Where a benchmark has several with the same, the
    rows of the file are theirs in order if they are as many, else all rows are of each. Problems without
    a response count as not solved. The same file under the same name is imported once. A benchmark without
    any response is refused, or, not `strict`, passed over.

    Raises:
        BadInputError: the file cannot be read, or holds no response to a problem of these benchmarks.
        ConflictError: the name stands for a policy or for other responses.
    """
    by_key = _read_by_statement(path)
    parts: list[_Part] = []
    with database.begin() as connection:
        model = _register_given(connection, name, path, _responses_fingerprint(by_key))
        run = ensure_run(connection, evaluation_recipe(PolicySection(model=name), model, 0), model)
        lock_run(connection, run.id)
        for section in benchmarks:
            part = _find_part(connection, section, by_key)
            if part.given:
                _give(connection, run, model, part, f"import:{path.name}")
                parts.append(part)
            elif strict:
                raise BadInputError(f"{path} holds no response to a problem of {section.name}")
        if not parts:
            raise BadInputError(f"{path} holds no response to a problem of these benchmarks")
    matched = {part.keys[problem] for part in parts for problem in part.given}
    return GivenReport(
        Started(run, name, tuple((part.section.name, given_evaluation_key(part.section)) for part in parts)),
        {part.section.name: sum(map(len, part.given.values())) for part in parts},
        {part.section.name: len(part.keys) - len(part.given) for part in parts},
        sum(len(row) for key, rows in by_key.items() if key not in matched for row in rows),
    )


def _read_by_statement(path: Path) -> dict[str, Rows]:
    """The rows of a file by what names their statement."""
    by_key: dict[str, Rows] = {}
    for entry in read_imported_samples(path):
        by_key.setdefault(content_key(entry.problem.statement), []).append(entry.responses)
    return by_key


@dataclass(frozen=True, slots=True)
class _Part:
    """What a file holds of one benchmark: the keys of its problems' statements, and their responses."""

    section: BenchmarkSection
    dataset_id: int
    keys: dict[int, str]
    given: dict[int, list[ImportedResponse]]


def _find_part(connection: Connection, section: BenchmarkSection, by_key: Mapping[str, Rows]) -> _Part:
    check_benchmark(connection, section)
    dataset = datasets.find_dataset(connection, section.dataset)
    keys = datasets.statement_keys(connection, dataset.id)
    return _Part(section, dataset.id, keys, _shared_out(by_key, keys))


def _shared_out(by_key: Mapping[str, Rows], places: Mapping[int, str]) -> dict[int, list[ImportedResponse]]:
    """The responses of each problem that has any; `places` are its problems with their statements' keys."""
    together: dict[str, list[int]] = {}
    for problem, key in places.items():
        together.setdefault(key, []).append(problem)
    shared: dict[int, list[ImportedResponse]] = {}
    for key, problems in together.items():
        rows = by_key.get(key, [])
        for place, problem in enumerate(problems):
            own = [rows[place]] if len(rows) == len(problems) else rows
            shared[problem] = [response for row in own for response in row]
    return {problem: responses for problem, responses in shared.items() if responses}


def _give(connection: Connection, run: Run, model: models.Model, part: _Part, worker: str) -> None:
    """Adds one evaluation with its samples, unless it is there."""
    evaluation_key = given_evaluation_key(part.section)
    if evaluations.find_evaluation(connection, run.id, model.id, evaluation_key) is not None:
        return
    plan = evaluations.EvaluationSpec(
        evaluation_key, part.dataset_id, max(map(len, part.given.values())), None
    )
    added = evaluations.add_evaluation(connection, run.id, 0, model.id, plan)
    evaluations.assign_all_problems(connection, added.id, part.dataset_id, None, plan.samples)
    counts = {problem: len(responses) for problem, responses in part.given.items()}
    drawn = [
        samples.DrawnSample(
            problem,
            slot,
            response.text,
            finish_reason=response.finish_reason,
            cumulative_logprob=response.cumulative_logprob,
        )
        for problem in evaluations.fit_to_responses(connection, added.id, counts)
        for slot, response in enumerate(part.given[problem])
    ]
    samples.write_samples(connection, added.id, model.id, worker, drawn)


def _register_given(connection: Connection, name: str, path: Path, mark: str) -> models.Model:
    known = {model.name: model for model in models.list_models(connection)}.get(name)
    if known is None:
        location = f"{_RESPONSES}{path.expanduser().resolve()}"
        return models.register_model(connection, name, location, mark)
    if not known.location.startswith(_RESPONSES):
        raise ConflictError(f"{name!r} is a policy ({known.location}); give the responses another name")
    if known.fingerprint != mark:
        raise ConflictError(f"{name!r} stands for other responses ({known.location}); give another name")
    return known


def _responses_fingerprint(by_key: Mapping[str, Rows]) -> str:
    told = json.dumps(
        {key: [[asdict(each) for each in row] for row in rows] for key, rows in by_key.items()},
        sort_keys=True,
    )
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def find_given(connection: Connection, name: str) -> models.Model | None:
    """The model of this name if nothing is known of it but responses."""
    known = {model.name: model for model in models.list_models(connection)}.get(name)
    return known if known is not None and known.location.startswith(_RESPONSES) else None


def given_results(database: Database, model: models.Model, benchmarks: Sequence[BenchmarkSection]) -> Started:
    """The evaluations of responses that were given before.

    Raises:
        NotFoundError: there are none for one of the benchmarks.
    """
    recipe = evaluation_recipe(PolicySection(model=model.name), model, 0)
    with database.begin() as connection:
        run = runs.find_run(connection, recipe.name)
        for section in benchmarks:
            if (
                evaluations.find_evaluation(connection, run.id, model.id, given_evaluation_key(section))
                is None
            ):
                raise NotFoundError(
                    f"{model.name!r} is known by given responses alone, and there are none for "
                    f"{section.name}; import them: hsstar evaluate {model.name} --responses FILE"
                )
    wanted = tuple((section.name, given_evaluation_key(section)) for section in benchmarks)
    return Started(run, model.name, wanted)
