"""Trainer on TRL: DPO for preference optimisation, supervised fine-tuning for step-wise initialisation."""

import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from transformers import GenerationConfig, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from hsstar.domain.errors import EngineError
from hsstar.engines.contracts import (
    ProgressCallback,
    TrainingExample,
    TrainingPair,
    TrainingReport,
    TrainingSettings,
)
from hsstar.engines.loading import context_length, load_policy, load_tokenizer, pick_device, pick_dtype
from hsstar.engines.training_data import Row, TrainingData, tokenise_examples, tokenise_pairs

_KEPT_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
"""Files that training does not change: a checkpoint inherits them from its parent byte by byte."""

_METRICS = (
    "loss",
    "grad_norm",
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "mean_token_accuracy",
)


class _TokenisedPairTrainer(DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """DPO on pairs that are tokenised already, so that training and sampling read a prompt alike."""

    def _prepare_dataset(self, dataset: Dataset, *_arguments: Any) -> Dataset:
        return dataset


class _Progress(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Reports optimiser steps to a callback."""

    def __init__(self, report: ProgressCallback) -> None:
        self._report = report

    def on_step_end(self, _arguments: Any, state: Any, _control: Any, **_rest: Any) -> None:
        """Called by the trainer after each optimiser step."""
        self._report(state.global_step, state.max_steps)


class TrlTrainer:
    """Trains in this process, on one device or as one rank of an `accelerate launch`.

    Weights are kept in float32 while they are trained, under bfloat16 autocast where the settings
    ask for bfloat16: at the method's learning rates most updates are lost in bfloat16 weights.
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = pick_device(device)

    def dpo(
        self,
        policy: Path,
        pairs: Sequence[TrainingPair],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
    ) -> TrainingReport:
        """Direct preference optimisation from `policy`, which is also the frozen reference.

        Raises:
            CheckpointError: the policy cannot be loaded.
            BadInputError: there is no pair to train on.
            EngineError: training ran out of memory or diverged.
        """
        tokenizer = load_tokenizer(policy)
        model = load_policy(policy, self._device, torch.float32)
        data = tokenise_pairs(pairs, tokenizer, _token_limit(model, settings))
        losses = {"sigmoid": 1.0, "sft": settings.nll_weight} if settings.nll_weight else {"sigmoid": 1.0}
        with _written_aside(output) as folder:
            trainer = _TokenisedPairTrainer(
                model=model,
                ref_model=load_policy(policy, self._device, self._compute_dtype(settings)),
                args=_on_one_device(
                    DPOConfig(
                        beta=settings.beta,
                        loss_type=list(losses),
                        loss_weights=list(losses.values()),
                        max_length=None,
                        **self._arguments(settings, len(data.rows), folder),
                    )
                ),
                train_dataset=_dataset(data),
                processing_class=tokenizer,
            )
            metrics = _train(trainer, progress)
            _save(trainer, policy, self._compute_dtype(settings), folder)
        return _report(trainer, data, metrics, output)

    def sft(
        self,
        policy: Path,
        examples: Sequence[TrainingExample],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
    ) -> TrainingReport:
        """Supervised fine-tuning on responses; the tokens of the prompts are masked from the loss.

        Raises:
            CheckpointError: the policy cannot be loaded.
            BadInputError: there is no example to train on.
            EngineError: training ran out of memory or diverged.
        """
        tokenizer = load_tokenizer(policy)
        model = load_policy(policy, self._device, torch.float32)
        data = tokenise_examples(examples, tokenizer, _token_limit(model, settings))
        with _written_aside(output) as folder:
            trainer = SFTTrainer(
                model=model,
                args=_on_one_device(
                    SFTConfig(max_length=None, **self._arguments(settings, len(data.rows), folder))
                ),
                train_dataset=_dataset(data),
                processing_class=tokenizer,
            )
            metrics = _train(trainer, progress)
            _save(trainer, policy, self._compute_dtype(settings), folder)
        return _report(trainer, data, metrics, output)

    def _compute_dtype(self, settings: TrainingSettings) -> torch.dtype:
        return pick_dtype(settings.dtype, self._device)

    def _arguments(self, settings: TrainingSettings, rows: int, folder: Path) -> dict[str, Any]:
        """The settings in the words of transformers' TrainingArguments.

        The warm-up is rounded down: a warm-up step of a one-step run would have learning rate 0.
        """
        batches = plan_batches(settings, rows, PartialState().num_processes)
        on_cpu = self._device.type == "cpu"
        return {
            "output_dir": str(folder / "trainer"),
            "learning_rate": settings.learning_rate,
            "per_device_train_batch_size": batches.micro_batch_size,
            "gradient_accumulation_steps": batches.accumulation,
            "num_train_epochs": settings.epochs,
            "lr_scheduler_type": settings.scheduler,
            "warmup_steps": int(batches.steps * settings.warmup_ratio),
            "weight_decay": settings.weight_decay,
            "seed": settings.seed,
            "bf16": self._compute_dtype(settings) == torch.bfloat16,
            "use_cpu": on_cpu,
            "gradient_checkpointing": not on_cpu,
            "dataloader_pin_memory": not on_cpu,
            "save_strategy": "no",
            "report_to": "none",
            "logging_steps": 1,
            "disable_tqdm": True,
        }


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """How rows are spread over passes and optimiser steps.

    Attributes:
        micro_batch_size: rows that pass through the model of one process at once.
        accumulation: passes of each process per optimiser step.
        steps: optimiser steps in all.
    """

    micro_batch_size: int
    accumulation: int
    steps: int


def plan_batches(settings: TrainingSettings, rows: int, processes: int) -> BatchPlan:
    """Passes that make up `batch_size` exactly where it is a multiple of the processes.

    The micro batch is the largest divisor of a process's share that the settings allow.
    """
    share = max(1, settings.batch_size // processes)
    micro = max(
        size for size in range(1, share + 1) if share % size == 0 and size <= settings.micro_batch_size
    )
    accumulation = share // micro
    passes = math.ceil(rows / (micro * processes))
    steps = math.ceil(settings.epochs * math.ceil(passes / accumulation))
    return BatchPlan(micro, accumulation, steps)


def _on_one_device(arguments: Any) -> Any:
    """Keeps a process to its own GPU; transformers would spread it over all, which TRL refuses."""
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1
    return arguments


def _token_limit(model: Any, settings: TrainingSettings) -> int:
    return min(settings.maximum_tokens, context_length(model.config))


def _dataset(data: TrainingData[Row]) -> Dataset:
    return Dataset.from_list([asdict(row) for row in data.rows])


def _train(trainer: Any, progress: ProgressCallback | None) -> dict[str, float]:
    """Runs the training; its metrics by name: the mean over all steps, and under `last/` the last."""
    trainer.remove_callback(PrinterCallback)
    if progress:
        trainer.add_callback(_Progress(progress))
    try:
        trainer.train()
    except torch.OutOfMemoryError as error:
        raise EngineError(f"training ran out of memory; lower micro_batch_size: {error}") from error
    metrics = {}
    for name in _METRICS:
        if values := [entry[name] for entry in trainer.state.log_history if name in entry]:
            metrics[name], metrics[f"last/{name}"] = sum(values) / len(values), values[-1]
    if not all(map(math.isfinite, metrics.values())):
        raise EngineError("training diverged: its loss or gradient is not finite; lower the learning rate")
    return metrics


def _save(trainer: Any, policy: Path, dtype: torch.dtype, folder: Path) -> None:
    """Writes the trained model's weights and configuration; the other files are the parent's."""
    checkpoint = folder / "checkpoint"
    trainer.processing_class = None
    trainer.model.generation_config = GenerationConfig()  # the parent's may be one that is refused
    if PartialState().num_processes == 1:
        trainer.model.to(dtype)
    trainer.save_model(str(checkpoint))
    if PartialState().is_main_process:
        for written in ("generation_config.json", "training_args.bin"):
            (checkpoint / written).unlink(missing_ok=True)
        for name in _KEPT_FILES:
            if (policy / name).is_file():
                shutil.copy2(policy / name, checkpoint / name)


def _report(trainer: Any, data: TrainingData[Row], metrics: dict[str, float], output: Path) -> TrainingReport:
    metrics["left_out"] = data.left_out
    return TrainingReport(output, len(data.rows), data.truncated, trainer.state.global_step, metrics)


@contextmanager
def _written_aside(output: Path) -> Iterator[Path]:
    """A working folder beside `output`; its `checkpoint` becomes `output` at the end, or nothing does.

    A checkpoint that is there already, from a repetition of the same job, is replaced.
    """
    state = PartialState()
    output.parent.mkdir(parents=True, exist_ok=True)
    names = [""]
    if state.is_main_process:
        names = [tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent)]
    folder = Path(broadcast_object_list(names)[0])
    try:
        yield folder
        state.wait_for_everyone()
        if state.is_main_process:
            if output.exists():
                output.rename(folder / "replaced")
            (folder / "checkpoint").rename(output)
    finally:
        if state.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
