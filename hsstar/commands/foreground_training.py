"""Trains in this process: the new checkpoint appears when it is whole, and an interrupted one continues."""

import fcntl
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hsstar.domain.errors import ConflictError
from hsstar.engines.registry import build_trainer
from hsstar.engines.training.contract import (
    Objective,
    ProgressCallback,
    ResumePoint,
    TrainingReport,
    TrainingRow,
    TrainingSettings,
    TrainingTask,
)
from hsstar.engines.training.resume import (
    adopt_checkpoint,
    clear_removed,
    of_another_training,
    training_identity,
)
from hsstar.settings import Settings

_CHECKPOINT = "step-*"

WriteCard = Callable[[Path, TrainingReport], str]
"""Gets the whole checkpoint, before it is in its place, and the report; returns its model card."""


def checked_output(folder: Path) -> Path:
    """Return the absolute path of a new checkpoint; raise ConflictError if something lies there."""
    output = folder.expanduser().absolute()
    if output.exists() and not output.is_dir():
        raise ConflictError(f"{output} is a file; give the folder of the new checkpoint")
    if output.is_dir() and any(output.iterdir()):
        raise ConflictError(f"{output} is not empty; give another folder, or remove it")
    return output


def train_in_foreground(
    objective: Objective,
    policy: Path,
    rows: Sequence[TrainingRow],
    chosen: TrainingSettings,
    output: Path,
    settings: Settings,
    write_card: WriteCard,
    progress: ProgressCallback | None,
    location: str = "",
) -> TrainingReport:
    """Train, or resume the same training after an interruption; `output` appears when it is whole.

    Intermediate checkpoints lie in a hidden folder beside it until the end. `location` as in `TrainingTask`.

    Raises:
        BadInputError: there is no row to train on.
        ConflictError: `output` holds something, or another process is training it.
        EngineError: training ran out of memory or diverged, or the disk has no room.
    """
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
        task = TrainingTask(objective, policy, rows, chosen, aside, resume_point, location)
        report = trainer.train(task, progress)
        (aside / "README.md").write_text(write_card(aside, report), encoding="utf-8")
        _put_in_place(aside, output, resume_point)
    return report


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
    checked_output(output)
    aside.rename(output)  # this replaces an empty folder
    for checkpoint in resume_point.folder.glob(_CHECKPOINT):
        shutil.rmtree(checkpoint, ignore_errors=True)
