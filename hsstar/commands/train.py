"""Training from a file, in the foreground and without a database: M_0, or DPO on given pairs."""

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from hsstar.checkpoints.card import Origin, card
from hsstar.checkpoints.resolve import check_policy, resolve
from hsstar.data.hub import local_file
from hsstar.data.solutions import read_pairs, read_solutions
from hsstar.domain.errors import BadInputError, ConflictError
from hsstar.domain.steps import split_steps
from hsstar.engines.prompts import prompt_renderer
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import (
    Intermediate,
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    training_settings,
)
from hsstar.engines.training.resume import (
    clear_removed,
    of_another_training,
    take_over,
    training_identity,
)
from hsstar.recipe.training import OptimisationSection
from hsstar.settings import Settings

_CHECKPOINT = "step-*"


@dataclass(frozen=True, slots=True)
class FileTraining:
    """What is to be trained.

    Attributes:
        data: a file, or a name on the hub (`hub:OWNER/NAME`): solutions for `sft`, pairs for `dpo`.
        model: the checkpoint to begin from.
        output: the folder of the new checkpoint; nothing or an empty folder may be there.
        prompt: template that renders the problems; pairs bring their prompts.
        recipe: where the settings come from, for the model card.
    """

    objective: Literal["sft", "dpo"]
    data: str
    model: str
    output: Path
    section: OptimisationSection
    seed: int
    prompt: str = "bare"
    recipe: str | None = None


@dataclass(frozen=True, slots=True)
class FileTrainingReport:
    """What a training from a file did.

    Attributes:
        without_solution: problems of the file that have none, left out.
        one_step: solutions that are not in steps, trained on all the same.
    """

    training: TrainingReport
    without_solution: int = 0
    one_step: int = 0


def train_from_file(
    wanted: FileTraining, settings: Settings, progress: ProgressCallback | None = None
) -> FileTrainingReport:
    """Trains, or goes on with a training of the same that was interrupted.

    Intermediate checkpoints lie in a hidden folder beside `output`, which goes in the end. `output` itself
    appears when it is whole.

    Raises:
        BadInputError: the data cannot be read, or hold nothing to train on.
        CheckpointError: the model is missing, broken or no policy.
        ConflictError: something else is in `output`, or another process is training it.
        EngineError: training ran out of memory or diverged, or there is no room on the disk.
    """
    output = wanted.output.expanduser().absolute()
    _refuse_other_things(output)
    check_policy(wanted.model)
    policy = resolve(wanted.model)
    rows, without_solution = _read(wanted, policy)
    chosen = training_settings(wanted.section, wanted.seed)
    trainer = build_trainer(processes=settings.train_processes, launch_config=settings.accelerate_config)
    with _workspace(output) as workspace:
        identity = training_identity(policy, rows, chosen, trainer.layout)
        if of_another_training(workspace, identity):
            raise ConflictError(
                f"an interrupted training of {output} is there, with other data or settings; repeat its "
                f"command to go on with it, or remove {workspace}"
            )
        intermediate = take_over(workspace, secrets.token_hex(8), identity)
        clear_removed(intermediate)
        aside = intermediate.folder / output.name
        if wanted.objective == "dpo":
            pairs = [row for row in rows if isinstance(row, TrainingPair)]
            report = trainer.dpo(policy, pairs, chosen, aside, progress, intermediate)
        else:
            examples = [row for row in rows if isinstance(row, TrainingExample)]
            report = trainer.sft(policy, examples, chosen, aside, progress, intermediate)
        (aside / "README.md").write_text(_card(wanted, output.name, len(rows), report, asdict(chosen)))
        _finish(aside, output, intermediate)
    one_step = sum(len(split_steps(row.response)) < 2 for row in rows if isinstance(row, TrainingExample))
    return FileTrainingReport(report, without_solution, one_step)


def _read(wanted: FileTraining, policy: Path) -> tuple[list[TrainingPair | TrainingExample], int]:
    """The rows of the file, and how many problems have no solution."""
    file = local_file(wanted.data)
    if wanted.objective == "dpo":
        return [TrainingPair(*pair) for pair in read_pairs(file)], 0
    render = prompt_renderer(wanted.prompt, str(policy))
    problems = list(read_solutions(file))
    rows: list[TrainingPair | TrainingExample] = [
        TrainingExample(render(problem.statement), problem.solution)
        for problem in problems
        if problem.solution
    ]
    if not rows:
        raise BadInputError(f"{file}: none of the {len(problems)} problems has a solution to learn from")
    return rows, len(problems) - len(rows)


def _refuse_other_things(output: Path) -> None:
    if output.exists() and not output.is_dir():
        raise ConflictError(f"{output} is a file; give the folder of the new checkpoint")
    if output.is_dir() and any(output.iterdir()):
        raise ConflictError(f"{output} is not empty; give another folder, or remove it")


@contextmanager
def _workspace(output: Path) -> Iterator[Path]:
    """The hidden folder beside `output`, for one process at a time; what can be gone on from stays there."""
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


def _finish(aside: Path, output: Path, intermediate: Intermediate) -> None:
    """Puts a whole checkpoint into its place; nothing is left to go on from."""
    _refuse_other_things(output)
    aside.rename(output)  # an empty folder makes room
    for checkpoint in intermediate.folder.glob(_CHECKPOINT):
        shutil.rmtree(checkpoint, ignore_errors=True)


def _card(
    wanted: FileTraining, name: str, rows: int, report: TrainingReport, settings: dict[str, object]
) -> str:
    way = "supervised fine-tuning" if wanted.objective == "sft" else "DPO"
    origin = Origin(
        name=name,
        parent=wanted.model,
        objective=wanted.objective,
        made=f"by {way} on {rows} rows of {wanted.data} in {report.steps} optimiser steps",
        recipe=wanted.recipe,
        settings=settings,
    )
    return card([origin], wanted.model)
