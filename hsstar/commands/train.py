"""Trains from a file, in the foreground and without a database: M_0, or DPO on pairs."""

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from hsstar.checkpoints.card import CardEntry, card
from hsstar.checkpoints.resolve import check_policy, resolve
from hsstar.data.hub import local_file
from hsstar.data.solutions import read_pairs, read_solutions
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.steps import split_steps
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import (
    Objective,
    ProgressCallback,
    ResumePoint,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingRow,
    TrainingTask,
    training_settings,
)
from hsstar.engines.training.resume import (
    adopt_checkpoint,
    clear_removed,
    of_another_training,
    training_identity,
)
from hsstar.recipe.training import OptimisationSection
from hsstar.settings import Settings

_CHECKPOINT = "step-*"


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


@dataclass(frozen=True, slots=True)
class FileTrainingReport:
    """The result of a training from a file."""

    training: TrainingReport
    without_solution: int = 0  # problems left out because they have no solution
    one_step: int = 0  # trained solutions that are not divided into steps


def train_from_file(
    request: FileTraining, settings: Settings, progress: ProgressCallback | None = None
) -> FileTrainingReport:
    """Train, or resume the same training after an interruption.

    Intermediate checkpoints lie in a hidden folder beside `output` until the end. `output` appears when it
    is whole.

    Raises:
        BadInputError: the data cannot be read, or have no row to train on.
        CheckpointError: the model is missing, broken or no policy.
        ConflictError: `output` holds something, or another process is training it.
        EngineError: training ran out of memory or diverged, or the disk has no room.
    """
    output = request.output.expanduser().absolute()
    _check_output(output)
    check_policy(request.model)
    policy = resolve(request.model)
    rows, without_solution = _read(request, policy)
    chosen = training_settings(request.section, request.seed)
    trainer = build_trainer(**settings.trainer_options)
    with _workspace(output) as workspace:
        identity = training_identity(policy, rows, chosen, trainer.layout)
        if of_another_training(workspace, identity):
            raise ConflictError(
                f"an interrupted training of {output} with other data or settings exists; repeat its command "
                f"to resume it, or remove {workspace}"
            )
        resume_point = adopt_checkpoint(workspace, secrets.token_hex(8), identity)
        clear_removed(resume_point)
        aside = resume_point.folder / output.name
        task = TrainingTask(request.objective, policy, rows, chosen, aside, resume_point)
        report = trainer.train(task, progress)
        (aside / "README.md").write_text(_card(request, output.name, len(rows), report, asdict(chosen)))
        _put_in_place(aside, output, resume_point)
    one_step = sum(len(split_steps(row.response)) < 2 for row in rows if isinstance(row, TrainingExample))
    return FileTrainingReport(report, without_solution, one_step)


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


def _check_output(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConflictError(f"{output} is a file; give the folder of the new checkpoint")
    if output.is_dir() and any(output.iterdir()):
        raise ConflictError(f"{output} is not empty; give another folder, or remove it")


@contextmanager
def _workspace(output: Path) -> Iterator[Path]:
    """Hold the hidden folder beside `output`; it stays while it has a checkpoint to resume from."""
    workspace = output.with_name(f".{output.name}-training")
    workspace.mkdir(parents=True, exist_ok=True)
    with (workspace / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process is training {output} at this moment") from None
        try:
            yield workspace
        finally:
            if not any(workspace.glob(f"*/{_CHECKPOINT}")):
                shutil.rmtree(workspace, ignore_errors=True)


def _put_in_place(aside: Path, output: Path, resume_point: ResumePoint) -> None:
    _check_output(output)
    aside.rename(output)  # this replaces an empty folder
    for checkpoint in resume_point.folder.glob(_CHECKPOINT):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _card(
    request: FileTraining, name: str, rows: int, report: TrainingReport, settings: dict[str, object]
) -> str:
    way = "supervised fine-tuning" if request.objective == "sft" else "DPO"
    entry = CardEntry(
        name=name,
        parent=request.model,
        objective=request.objective,
        made=f"by {way} on {rows} rows of {request.data} in {report.steps} optimiser steps",
        recipe=request.recipe,
        settings=settings,
    )
    return card([entry], request.model)
