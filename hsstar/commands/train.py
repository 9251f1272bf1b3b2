"""Trains from a file, in the foreground and without a database: M_0, or DPO on pairs."""

from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.checkpoints.card import CardEntry, card
from hsstar.checkpoints.resolve import check_policy, resolve
from hsstar.commands.foreground_training import checked_output, train_in_foreground
from hsstar.data.hub import local_file
from hsstar.data.solutions import read_pairs, read_solutions
from hsstar.domain.errors import BadInputError
from hsstar.domain.rounding import SampledUpdate, resolve_format
from hsstar.domain.steps import split_steps
from hsstar.engines.device import has_gpu
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.training.contract import (
    Objective,
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    training_settings,
)
from hsstar.recipe.policy import PolicySection
from hsstar.recipe.training import OptimisationSection
from hsstar.settings import Settings


@dataclass(frozen=True, slots=True)
class FileTraining:
    """A training that a user asks for."""

    objective: Objective
    data: str  # a file, or a name on the hub (`hub:OWNER/NAME`): solutions for `sft`, pairs for `dpo`
    model: str  # the checkpoint to start from
    output: Path  # the folder of the new checkpoint; it is missing or empty
    section: OptimisationSection
    seed: int
    prompt: str = "bare"  # the template that renders problems; pairs have their own prompts
    recipe: str | None = None  # the text that the settings come from, for the model card
    policy: PolicySection | None = None  # that says how the new checkpoint is sampled; None for the defaults


@dataclass(frozen=True, slots=True)
class FileTrainingReport:
    """The result of a training from a file."""

    training: TrainingReport
    update: SampledUpdate
    without_solution: int = 0  # problems left out because they have no solution
    one_step: int = 0  # trained solutions that are not divided into steps


def train_from_file(
    request: FileTraining, settings: Settings, progress: ProgressCallback | None = None
) -> FileTrainingReport:
    """Train, or resume the same training after an interruption; further errors as in `train_in_foreground`.

    Raises:
        BadInputError: the data cannot be read.
        CheckpointError: the model is missing, broken or no policy.
    """
    output = checked_output(request.output)
    check_policy(request.model)
    policy = resolve(request.model)
    rows, without_solution = _read(request, policy)
    chosen = training_settings(request.section, request.seed)

    def update_of(report: TrainingReport) -> SampledUpdate:
        return SampledUpdate(_sampled_as(request.policy), report.updates)

    def write_card(_: Path, report: TrainingReport) -> str:
        return _card(request, output.name, len(rows), report, update_of(report), asdict(chosen))

    report = train_in_foreground(
        request.objective, policy, rows, chosen, output, settings, write_card, progress
    )
    one_step = sum(len(split_steps(row.response)) < 2 for row in rows if isinstance(row, TrainingExample))
    return FileTrainingReport(report, update_of(report), without_solution, one_step)


def _sampled_as(policy: PolicySection | None) -> str | None:
    gpu = has_gpu()
    return resolve_format("auto", gpu=gpu) if policy is None else policy.sampled_as(gpu=gpu)


def _read(request: FileTraining, policy: Path) -> tuple[list[TrainingRow], int]:
    file = local_file(request.data)
    if request.objective == "dpo":
        return [TrainingPair(*pair) for pair in read_pairs(file)], 0
    render = prompt_renderer(request.prompt, str(policy))
    problems = list(read_solutions(file))
    rows: list[TrainingRow] = [
        TrainingExample(render(problem.statement), problem.solution)
        for problem in problems
        if problem.solution
    ]
    if not rows:
        raise BadInputError(f"{file}: none of the {len(problems)} problems has a solution to learn from")
    return rows, len(problems) - len(rows)


def _card(
    request: FileTraining,
    name: str,
    rows: int,
    report: TrainingReport,
    update: SampledUpdate,
    settings: dict[str, object],
) -> str:
    way = "supervised fine-tuning" if request.objective == "sft" else "DPO"
    entry = CardEntry(
        name=name,
        parent=request.model,
        objective=request.objective,
        made=f"by {way} on {rows} rows of {request.data} in {report.steps} optimiser steps",
        recipe=request.recipe,
        settings=settings,
        update=update,
    )
    return card([entry], request.model)
