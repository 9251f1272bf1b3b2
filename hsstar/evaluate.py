"""Evaluations outside of training runs: benchmarks in, a policy or given responses measured on them.

An evaluation of this kind has a run of its own, without training problems: its name is derived from all
that decides its samples, so that the same wish finds the same run, and nothing is drawn twice.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection

from hsstar.benchmark_files import content_fingerprint, find_file, read_benchmark
from hsstar.commands import check_benchmark, check_recipe_policy
from hsstar.domain.benchmarks import GREEDY, Benchmark, Decoding
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.domain.problems import ImportedResponse, Problem
from hsstar.domain.text import content_key
from hsstar.engines.verifier import MathVerifier
from hsstar.files import read_imported_samples
from hsstar.recipe import PolicySection, Recipe, parse_recipe
from hsstar.recipe_evaluation import BenchmarkSection
from hsstar.store import corpus, evaluations, models, overlaps, runs, samples
from hsstar.store.database import Database, lock_run
from hsstar.store.overlaps import OverlapCount
from hsstar.store.runs import Run

GIVEN = "given responses"
"""What stands in a measure in place of a decoding."""

_RESPONSES = "responses:"
"""The location of a model that is known by its responses alone begins with this."""

_BATCH = 500
_SECOND_LOOK_SECONDS = 30.0


Rows = list[tuple[ImportedResponse, ...]]
"""The rows of a file with the same statement, each with its responses."""


@dataclass(frozen=True, slots=True)
class Started:
    """An evaluation that is under way, or done.

    Attributes:
        run: where it is stored.
        model: what is measured.
        wanted: (benchmark, measure) of each part, in the order asked for.
    """

    run: Run
    model: str
    wanted: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class ImportedBenchmark:
    """A benchmark that is at hand.

    Attributes:
        name: what `evaluation.benchmarks` calls it; a part of a benchmark has a name of its own.
        problems: how many it holds.
        unreadable: those whose reference answer cannot be read.
        overlaps: training problems that overlap it, where it is new.
    """

    name: str
    problems: int
    unreadable: int
    overlaps: tuple[OverlapCount, ...] = ()


def import_benchmark(
    database: Database,
    benchmark: Benchmark,
    source: Path | None,
    *,
    partial: bool = False,
    progress: Callable[[int], None] | None = None,
) -> ImportedBenchmark:
    """Brings a benchmark into the database, unless it is there.

    Args:
        database: where to.
        benchmark: which one.
        source: its file or a folder of files; None takes what is there, else what the hub has.
        partial: take a file with another number of problems than the benchmark, as a dataset of its own.
        progress: is told the number of problems whose references have been read so far.

    Raises:
        BadInputError: the file is missing, broken, or has the wrong number of problems.
        ConflictError: the benchmark was imported with other statements or answers before.
    """
    if source is None:
        with database.begin() as connection:
            if corpus.benchmark_fingerprint(connection, benchmark.dataset) is not None:
                return _at_hand(connection, benchmark.name, benchmark.dataset)
    problems = read_benchmark(benchmark, find_file(benchmark, source), partial=partial)
    mark = content_fingerprint(problems)
    whole = len(problems) == benchmark.problems
    dataset = benchmark.dataset if whole else f"{benchmark.dataset}-part-{mark[:8]}"
    name = benchmark.name if whole else dataset
    with database.begin() as connection:
        known = corpus.benchmark_fingerprint(connection, dataset)
        if known == mark:
            return _at_hand(connection, name, dataset)
        if known is not None:
            raise ConflictError(
                f"{benchmark.title} is there already, and {source} has other statements or answers; "
                "leave out --data to use what is there"
            )
    readable = _check_references(problems, progress)
    with database.begin() as connection:
        dataset_id = corpus.ensure_dataset(connection, dataset)
        corpus.add_problems(connection, dataset_id, problems, readable)
        corpus.mark_benchmark(connection, dataset_id, benchmark.name, mark)
        others = [each for each in overlaps.training_datasets(connection) if each != dataset_id]
        found = overlaps.find_overlaps(connection, others, [dataset_id])
    return ImportedBenchmark(name, len(problems), readable.count(False), tuple(found))


def _at_hand(connection: Connection, name: str, dataset: str) -> ImportedBenchmark:
    found = corpus.find_dataset(connection, dataset)
    return ImportedBenchmark(name, found.problems, found.unreadable)


def _check_references(problems: Sequence[Problem], progress: Callable[[int], None] | None) -> list[bool]:
    """Whether each reference answer can be read; what could not is looked at again, with more time.

    Else a busy machine would decide which problems a benchmark has.
    """
    references = [problem.reference for problem in problems]
    readable: list[bool] = []
    with MathVerifier() as verifier:
        for start in range(0, len(references), _BATCH):
            readable += verifier.check_references(references[start : start + _BATCH])
            if progress is not None:
                progress(len(readable))
    doubtful = [place for place, fine in enumerate(readable) if not fine]
    with MathVerifier(processes=1, deadline_seconds=_SECOND_LOOK_SECONDS) as verifier:
        again = verifier.check_references([references[place] for place in doubtful])
    for place, fine in zip(doubtful, again, strict=True):
        readable[place] = fine
    return readable


def section_of(
    name: str, protocol: Decoding | None, problems: int | None, changes: dict[str, Any]
) -> BenchmarkSection:
    """A benchmark, or another dataset, with its protocol and what is to be other.

    Raises:
        BadInputError: the values contradict each other.
    """
    document = {"name": name, "problems": problems} | asdict(protocol or GREEDY) | changes
    try:
        return BenchmarkSection.model_validate(document)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError(f"{name}: {message}") from None


def is_finished(database: Database, started: Started) -> bool:
    """Whether every part has its accuracy."""
    with database.begin() as connection:
        return evaluations.all_finished(connection, started.run.id, [each for _, each in started.wanted])


def start_evaluation(
    database: Database, policy: PolicySection, benchmarks: Sequence[BenchmarkSection], seed: int
) -> Started:
    """The run that measures a policy on these benchmarks; what it lacks is added, the workers do the rest.

    Raises:
        CheckpointError: the policy is missing or broken, or has no chat template to use.
        NotFoundError: a benchmark has not been imported, or the policy is known by given responses alone.
        BadInputError: the engine does not know an option, or a dataset holds no problems.
    """
    with database.begin() as connection:
        given = _find_given(connection, policy.model)
    if given is not None:
        return _given_results(database, given, benchmarks)
    checked = check_recipe_policy(database, policy)
    with database.begin() as connection:
        model = models.register_model(connection, checked.name, checked.location, checked.fingerprint)
        recipe = _recipe(policy, model, seed)
        run = _ensure_run(connection, recipe, model)
        lock_run(connection, run.id)
        for each in benchmarks:
            check_benchmark(connection, each)
            evaluations.ensure_benchmark(connection, run, 0, model.id, each)
    return Started(run, model.name, tuple((each.name, each.measure) for each in benchmarks))


def _recipe(policy: PolicySection, model: models.Model, seed: int) -> Recipe:
    """What decides the samples of an evaluation, with a name that follows from it."""
    document = policy.model_dump(mode="json") | {"model": model.name}
    told = json.dumps([document, model.fingerprint, seed], sort_keys=True)
    digest = hashlib.sha256(told.encode()).hexdigest()[:8]
    readable = re.sub(r"[^\w.+-]+", "-", Path(model.name).name)[:60]
    return parse_recipe(
        {
            "name": f"evaluate-{readable}-{digest}",
            "seed": seed,
            "problems": {"dataset": "none", "per_iteration": 1},
            "policy": document,
            "difficulty": {"signal": "accuracy"},
            "pairs": {"rule": "random"},
            "training": {"objective": "none"},
        },
        "evaluation",
    )


def _ensure_run(connection: Connection, recipe: Recipe, model: models.Model) -> Run:
    if recipe.name in {run.name for run in runs.list_runs(connection)}:
        return runs.find_run(connection, recipe.name)
    return runs.create_run(connection, recipe.name, recipe, model.id, None)


# --- given responses ------------------------------------------------------------------------------


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


def given_measure(section: BenchmarkSection) -> str:
    """Names the evaluation of given responses on a benchmark."""
    return f"{section.name}, {GIVEN}"


def import_responses(
    database: Database, name: str, path: Path, benchmarks: Sequence[BenchmarkSection]
) -> GivenReport:
    """Makes the responses of a file the samples of an evaluation; the workers verify them.

    A response belongs to the problem with its statement. Where a benchmark has several with the same, the
    rows of the file are theirs in order if they are as many, else all rows are of each. Problems without
    a response count as not solved. The same file under the same name is imported once.

    Raises:
        BadInputError: the file cannot be read, or holds no response to a problem of these benchmarks.
        ConflictError: the name stands for a policy or for other responses.
    """
    by_key: dict[str, Rows] = {}
    for entry in read_imported_samples(path):
        by_key.setdefault(content_key(entry.problem.statement), []).append(entry.responses)
    mark = _responses_fingerprint(by_key)
    imported, missing, matched = dict[str, int](), dict[str, int](), set[str]()
    with database.begin() as connection:
        model = _register_given(connection, name, path, mark)
        recipe = _recipe(PolicySection(model=name), model, 0)
        run = _ensure_run(connection, recipe, model)
        lock_run(connection, run.id)
        for section in benchmarks:
            check_benchmark(connection, section)
            dataset = corpus.find_dataset(connection, section.dataset)
            places = corpus.statement_keys(connection, dataset.id)
            of_dataset = _shared_out(by_key, places)
            if not of_dataset:
                raise BadInputError(f"{path} holds no response to a problem of {section.name}")
            matched |= {places[problem] for problem in of_dataset}
            missing[section.name] = len(places) - len(of_dataset)
            imported[section.name] = sum(map(len, of_dataset.values()))
            _give(connection, run, model, section, dataset.id, of_dataset, f"import:{path.name}")
    strangers = sum(len(row) for key, rows in by_key.items() if key not in matched for row in rows)
    wanted = tuple((section.name, given_measure(section)) for section in benchmarks)
    return GivenReport(Started(run, name, wanted), imported, missing, strangers)


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


def _give(
    connection: Connection,
    run: Run,
    model: models.Model,
    section: BenchmarkSection,
    dataset_id: int,
    given: dict[int, list[ImportedResponse]],
    worker: str,
) -> None:
    """Adds one evaluation with its samples, unless it is there."""
    measure = given_measure(section)
    if evaluations.find_evaluation(connection, run.id, model.id, measure) is not None:
        return
    plan = evaluations.Plan(measure, dataset_id, max(map(len, given.values())), None)
    added = evaluations.add_evaluation(connection, run.id, 0, model.id, plan)
    evaluations.take_all_problems(connection, added.id, dataset_id, None, plan.samples)
    taken = evaluations.keep_given(connection, added.id, {key: len(each) for key, each in given.items()})
    drawn = [
        samples.DrawnSample(
            problem,
            slot,
            response.text,
            finish_reason=response.finish_reason,
            cumulative_logprob=response.cumulative_logprob,
        )
        for problem in taken
        for slot, response in enumerate(given[problem])
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


def _find_given(connection: Connection, name: str) -> models.Model | None:
    """The model of this name if nothing is known of it but responses."""
    known = {model.name: model for model in models.list_models(connection)}.get(name)
    return known if known is not None and known.location.startswith(_RESPONSES) else None


def _given_results(
    database: Database, model: models.Model, benchmarks: Sequence[BenchmarkSection]
) -> Started:
    recipe = _recipe(PolicySection(model=model.name), model, 0)
    with database.begin() as connection:
        run = runs.find_run(connection, recipe.name)
        for section in benchmarks:
            if evaluations.find_evaluation(connection, run.id, model.id, given_measure(section)) is None:
                raise NotFoundError(
                    f"{model.name!r} is known by given responses alone, and there are none for "
                    f"{section.name}; import them: hsstar evaluate {model.name} --responses FILE"
                )
    wanted = tuple((section.name, given_measure(section)) for section in benchmarks)
    return Started(run, model.name, wanted)
