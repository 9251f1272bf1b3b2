"""`hsstar evaluate`: measure policies, or external responses, on benchmarks.

Such an evaluation has a run of its own, without training problems. The run's name follows from everything
that decides the samples, so that the same request finds the same run, and nothing is drawn twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from hsstar.commands.benchmarks import ImportedBenchmark, check_benchmark, ensure_imported
from hsstar.commands.evaluation_run import EvaluationRun, ensure_run
from hsstar.commands.external_responses import (
    ExternalResponsesReport,
    find_external_run,
    find_responses,
    import_responses,
)
from hsstar.commands.models import CheckedPolicy, check_recipe_policy
from hsstar.commands.prompts import with_examples, with_thinking
from hsstar.data.samples import SampleFiles
from hsstar.domain.benchmarks import BENCHMARKS, GREEDY
from hsstar.domain.errors import BadInputError
from hsstar.recipe.base import parse_section
from hsstar.recipe.evaluation import BenchmarkSection
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.recipe import load_recipe
from hsstar.recipe.verification import VerificationSection
from hsstar.store import evaluations
from hsstar.store.database import Database, lock_run
from hsstar.verifier.kinds import check_settings

Notice = ImportedBenchmark | ExternalResponsesReport
"""What a user is told while an evaluation starts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What is asked for."""

    model: str  # a registered name, a folder or a hub name; with `responses` what these are called
    compare: str | None = None  # another one that is measured too
    benchmarks: Sequence[str] = ()  # or imported datasets; empty for all seven benchmarks
    data: Path | None = None  # folder of benchmark files; None takes what is imported, else asks the hub
    problems: int | None = None  # the first so many of each; None for all
    decoding: Mapping[str, Any] = field(default_factory=dict)  # replaces values of the protocol
    prompt: str | None = None  # replaces that of `[policy]`, as does `engine`
    engine: str | None = None
    recipe: Path | None = None  # file whose `[policy]` and `[verification]` are taken; None for the defaults
    seed: int = 0
    responses: SampleFiles | None = None  # external responses that are measured as `model`

    def __post_init__(self) -> None:
        if self.model == self.compare:
            raise BadInputError(f"--compare names {self.model} itself")
        drawing = (self.decoding, self.problems, self.prompt, self.engine, self.recipe)
        if self.responses is not None and any(drawing):
            raise BadInputError("--responses goes with --benchmarks, --data and --compare: nothing is drawn")


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What was asked for: the run of the model, then that of the model it is compared with."""

    runs: tuple[EvaluationRun, ...]

    def unfinished(self, database: Database) -> list[EvaluationRun]:
        """Return the runs that lack an accuracy."""
        return [run for run in self.runs if not run.is_finished(database)]


def evaluate(
    database: Database,
    options: EvaluateOptions,
    tell: Callable[[Notice], None] = lambda notice: None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Find or start the evaluations that are asked for; the workers do what they lack.

    `tell` is called with each benchmark when it is imported, and with what a file of responses holds;
    `progress` with the number of references read so far, while a benchmark is imported.

    Raises:
        CheckpointError: a policy is missing or broken, or has no chat template to use.
        NotFoundError: a dataset has not been imported, or external responses to a benchmark are missing.
        BadInputError: options contradict each other, a file is wrong, or a dataset holds too few problems.
        ConflictError: a name stands for other responses, or a benchmark was imported with other content.
    """
    names = [name for name in (options.model, options.compare) if name is not None]
    start = [_resolve(database, name, options, tell) for name in names]  # before a long import
    sections = [
        _section(database, name, options, tell, progress) for name in options.benchmarks or BENCHMARKS
    ]
    return Evaluation(tuple(start_run(sections) for start_run in start))


def _resolve(
    database: Database, name: str, options: EvaluateOptions, tell: Callable[[Notice], None]
) -> Callable[[Sequence[BenchmarkSection]], EvaluationRun]:
    """Check what a name stands for; return what finds or starts its run on some benchmarks."""
    if options.responses is not None and name == options.model:
        return partial(_measure_responses, database, name, options, tell)
    with database.begin() as connection:
        responses = find_responses(connection, name)
    if responses is not None:
        return partial(find_external_run, database, responses)
    section = with_examples(database, _policy_section(name, options))
    verification = _verification(options)
    policy = check_recipe_policy(database, section)
    section = with_thinking(section, policy.location)
    return partial(_measure_policy, database, section, policy, options.seed, verification)


def _verification(options: EvaluateOptions) -> VerificationSection:
    """Return how responses are verified; raise EngineError or BadInputError if what that needs is missing."""
    if options.recipe is None:
        return VerificationSection()
    verification = load_recipe(options.recipe).verification
    for settings in verification.all_settings:
        check_settings(settings)
    return verification


def _policy_section(name: str, options: EvaluateOptions) -> PolicySection:
    document: dict[str, Any] = {}
    if options.recipe is not None:
        document = load_recipe(options.recipe).policy.model_dump(mode="json", exclude_unset=True)
    changes = {"model": name, "prompt": options.prompt, "engine": options.engine}
    document |= {key: value for key, value in changes.items() if value is not None}
    return parse_section(PolicySection, document, "[policy]")


def _section(
    database: Database,
    name: str,
    options: EvaluateOptions,
    tell: Callable[[Notice], None],
    progress: Callable[[int], None] | None,
) -> BenchmarkSection:
    stored_name, protocol = name, GREEDY
    if name in BENCHMARKS:
        benchmark, partial_file = BENCHMARKS[name], options.problems is not None
        imported = ensure_imported(database, benchmark, options.data, partial=partial_file, progress=progress)
        tell(imported)
        stored_name, protocol = imported.name, benchmark.decoding
    document = {"name": stored_name, "problems": options.problems, **asdict(protocol), **options.decoding}
    try:
        return BenchmarkSection.model_validate(document)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError(f"{stored_name}: {message}") from None


def _measure_policy(
    database: Database,
    section: PolicySection,
    policy: CheckedPolicy,
    seed: int,
    verification: VerificationSection,
    benchmarks: Sequence[BenchmarkSection],
) -> EvaluationRun:
    with database.begin() as connection:
        model = policy.register(connection)
        run = ensure_run(connection, section, model, seed, verification)
        lock_run(connection, run.id)
        for benchmark in benchmarks:
            check_benchmark(connection, benchmark)
            evaluations.ensure_benchmark(connection, run, 0, model.id, benchmark)
    parts = tuple((benchmark.name, benchmark.evaluation_key) for benchmark in benchmarks)
    return EvaluationRun(run, model.name, parts)


def _measure_responses(
    database: Database,
    name: str,
    options: EvaluateOptions,
    tell: Callable[[Notice], None],
    benchmarks: Sequence[BenchmarkSection],
) -> EvaluationRun:
    assert options.responses is not None  # noqa: S101  # else nothing is to be imported
    report = import_responses(database, name, options.responses, benchmarks, strict=bool(options.benchmarks))
    tell(report)
    return report.run
