"""What a trainer does: the task, the events on the way, and the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, Protocol

from hsstar.recipe.training import OptimisationSection


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """One preference pair as text."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One example for supervised fine-tuning; the loss leaves the prompt out."""

    prompt: str
    response: str


TrainingRow = TrainingPair | TrainingExample
Objective = Literal["dpo", "sft"]


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Optimisation settings of both objectives (METHOD step 7).

    Attributes:
        batch_size: rows per optimiser step.
        micro_batch_size: rows that pass through the model at once.
        maximum_tokens: of prompt and response together; a longer response is cut at its end.
        beta: strength of the DPO constraint; only `dpo` uses it and the next four.
        loss_type: the preference loss by TRL's name.
        label_smoothing: assumed share of swapped pairs, for the losses that support it.
        nll_weight: weight of the added negative log-likelihood of the chosen response (0: none).
        precompute_reference_logprobs: run the reference once, before training, and free it.
        dtype: `auto` is bfloat16 on a GPU and float32 on a CPU.
        gradient_checkpointing: None: on a GPU only.
        lora_rank: rank of the adapters to train (0: train the weights themselves).
        lora_target_modules: names of the adapted layers; empty: every linear layer but the head.
        quantization: number format of the frozen weights under adapters.
        sharding: how several processes share weights, gradients and optimiser state.
        save_every_steps: optimiser steps between intermediate checkpoints (0: none); None: a tenth of all
            steps, and at least half a minute.
    """

    learning_rate: float
    batch_size: int
    epochs: float
    warmup_ratio: float
    scheduler: str
    maximum_tokens: int
    seed: int
    micro_batch_size: int = 8
    weight_decay: float = 0.0
    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0
    nll_weight: float = 0.0
    precompute_reference_logprobs: bool = False
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool | None = None
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_target_modules: tuple[str, ...] = ()
    quantization: Literal["none", "4bit"] = "none"
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    save_every_steps: int | None = None


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where an attempt at a training writes intermediate checkpoints, and the one that it resumes from.

    Attributes:
        folder: only this attempt writes there.
        identity: names the training, as in `resume.training_identity`.
        checkpoint: a whole intermediate checkpoint in the folder; None: start from the policy.
    """

    folder: Path
    identity: str
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A training to run.

    Attributes:
        objective: `dpo` is direct preference optimisation, `sft` supervised fine-tuning.
        policy: the checkpoint folder to start from; for `dpo` also the frozen reference.
        rows: pairs for `dpo`, examples for `sft`.
        output: the folder of the new checkpoint.
        resume_point: None: write no intermediate checkpoints.
    """

    objective: Objective
    policy: Path
    rows: Sequence[TrainingRow]
    settings: TrainingSettings
    output: Path
    resume_point: ResumePoint | None = None


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """The size of a training, known before its first step.

    Attributes:
        steps: optimiser steps in all.
        resumed_at: steps that an earlier attempt has done.
        examples: rows trained on.
        truncated: rows cut to `maximum_tokens`.
        left_out: rows whose prompt alone fills the limit.
        lengths: tokens before any cut, by part (`prompt`, `chosen` …) and quantile (`min`, `median` …).
    """

    steps: int
    resumed_at: int
    examples: int
    truncated: int
    left_out: int
    lengths: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A finished optimiser step.

    Attributes:
        metrics: of this step, by TRL's names (`loss`, `rewards/margins` …), and `tokens_per_second`.
    """

    step: int
    steps: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainingSaved:
    """A whole intermediate checkpoint: another attempt can resume from this step."""

    step: int


TrainingEvent = TrainingStart | TrainingStep | TrainingSaved
ProgressCallback = Callable[[TrainingEvent], None]
"""Receives the events of a training; an error that it raises ends the training."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """The result of a training.

    Attributes:
        checkpoint: the folder of the new model (Hugging Face layout).
        examples: rows trained on.
        truncated: rows cut to `maximum_tokens`.
        steps: optimiser steps.
        metrics: the mean of each metric over all steps, and under `last/` its last value.
    """

    checkpoint: Path
    examples: int
    truncated: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains policies."""

    layout: str
    """How processes share the training; an intermediate checkpoint fits the same layout only."""

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        """Train a policy; the checkpoint in `task.output` is whole or absent.

        Raises:
            CheckpointError: the policy cannot be loaded.
            BadInputError: no row can be trained on.
            EngineError: training ran out of memory or diverged, or the disk has no room.
        """
        ...


_OF_A_SECTION = tuple(field.name for field in fields(TrainingSettings) if field.name != "seed")


def training_settings(section: OptimisationSection, seed: int) -> TrainingSettings:
    """Return the settings of a recipe section; a setting that it lacks keeps its default."""
    chosen = {name: getattr(section, name) for name in _OF_A_SECTION if hasattr(section, name)}
    return TrainingSettings(**chosen, seed=seed)
