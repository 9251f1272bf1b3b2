"""What hsstar adds to other training loops: reports of every step, and whole checkpoints."""

import math
import shutil
import time
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl import DPOTrainer, KTOTrainer, SFTTrainer

from hsstar.domain.errors import EngineError
from hsstar.engines.training.contract import ProgressCallback, ResumePoint, TrainingSaved, TrainingStep
from hsstar.engines.training.resume import publish

STEP_METRICS = (
    "loss",
    "grad_norm",
    "learning_rate",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "kl",
    "mean_token_accuracy",
)
"""The reported metrics of an optimiser step, by TRL's names."""


_REFERENCE = "ref"
"""TRL's name of the copy of an adapter that is the reference.

An attempt makes it anew from the policy; from a checkpoint that has it transformers would read it alone.
"""


class Reporter(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports every optimiser step and ends a training that diverges; every rank has one."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self.steps_done = 0
        self._progress = progress
        self._begun = time.monotonic()
        self._tokens = 0.0

    def on_step_begin(self, _arguments: Any, _state: Any, _control: Any, **_rest: Any) -> None:
        """Note when an optimiser step begins."""
        self._begun = time.monotonic()

    def on_log(self, _arguments: Any, state: Any, _control: Any, logs: Any = None, **_rest: Any) -> None:
        """Report an optimiser step; the trainer calls this with a summary too, at the end."""
        if "loss" not in logs:
            return
        self.steps_done += 1
        metrics = {name: float(logs[name]) for name in STEP_METRICS if name in logs}
        if not all(map(math.isfinite, metrics.values())):
            raise EngineError(
                f"training diverged in step {state.global_step} of {state.max_steps}: its loss or gradient "
                "is not finite; lower the learning rate"
            )
        tokens = float(logs.get("num_tokens", state.num_input_tokens_seen))
        seconds = max(time.monotonic() - self._begun, 1e-6)
        metrics["tokens_per_second"] = (tokens - self._tokens) / seconds
        self._tokens = tokens
        if self._progress and state.is_world_process_zero:
            self._progress(TrainingStep(state.global_step, state.max_steps, metrics))


class SaveEvery(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Requests an intermediate checkpoint every `steps` steps, except after the last one.

    It skips a checkpoint within `seconds` of the one before; every rank follows the clock of the first.
    """

    def __init__(self, steps: int, seconds: float) -> None:
        self._steps = steps
        self._seconds = seconds
        self._last = time.monotonic()

    def on_step_end(self, _arguments: Any, state: Any, control: Any, **_rest: Any) -> Any:
        """Decide whether to save after this step."""
        if state.global_step % self._steps == 0 and state.global_step < state.max_steps:
            (due,) = broadcast_object_list([time.monotonic() - self._last >= self._seconds])
            control.should_save = due
        return control

    def on_save(self, _arguments: Any, _state: Any, _control: Any, **_rest: Any) -> None:
        """Restart the clock."""
        self._last = time.monotonic()


class _Publishing:
    resume_point: ResumePoint | None = None
    """Set before the training begins, as is `progress`."""
    progress: ProgressCallback | None = None

    def _save_checkpoint(self: Any, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)  # type: ignore[misc]  # of the trainer that this is mixed into
        self.accelerator.wait_for_everyone()
        step = self.state.global_step
        if self.accelerator.is_main_process:
            written = Path(self.args.output_dir) / f"checkpoint-{step}"
            shutil.rmtree(written / _REFERENCE, ignore_errors=True)
            publish(self.resume_point, written, step)
            if self.progress:
                self.progress(TrainingSaved(step))
        self.accelerator.wait_for_everyone()

    def create_model_card(self, *_arguments: Any, **_rest: Any) -> None:
        """Write none: TRL's card does not name the data."""


class PairTrainer(_Publishing, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """DPO on tokenised pairs, so that training and sampling read a prompt alike."""

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset


class VerdictTrainer(_Publishing, KTOTrainer):  # type: ignore[misc]  # TRL has no types
    """KTO on tokenised responses with their verdicts, in the order of the rows."""

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset


class ExampleTrainer(_Publishing, SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """Supervised fine-tuning on tokenised examples."""


class StepTrainer(_Publishing, Trainer):  # type: ignore[misc]  # transformers has no types
    """Training of a value head, and of the policy under it, on tokenised responses with labelled steps."""
