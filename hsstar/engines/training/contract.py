"""What a trainer has to do."""

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
    """One example for supervised fine-tuning; the prompt is masked from the loss."""

    prompt: str
    response: str


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Optimisation settings shared by the objectives (METHOD step 7).

    Attributes:
        batch_size: pairs or examples per optimiser step.
        micro_batch_size: how many of them pass through the model at once.
        maximum_tokens: prompt and response together; longer ones are cut at the end.
        beta: strength of the DPO constraint; unused by supervised fine-tuning, as are the next four.
        loss_type: the preference loss by TRL's name.
        label_smoothing: share of pairs taken to be the wrong way round, for the losses that know of it.
        nll_weight: weight of an added negative log-likelihood of the chosen response (0: none).
        precompute_reference_logprobs: ask the reference once, before training, and let go of it.
        dtype: `auto` is bfloat16 on a GPU and float32 on a CPU.
        gradient_checkpointing: None is on a GPU only.
        lora_rank: rank of the adapters that are trained instead of the weights (0: the weights).
        lora_target_modules: names of the adapted layers; empty: every linear layer but the head.
        quantization: number format of the frozen weights under the adapters.
        sharding: how several processes share weights, gradients and optimiser state.
        save_every_steps: optimiser steps between intermediate checkpoints (0: none); None is a tenth of
            all, and half a minute at least.
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
class Intermediate:
    """Where one attempt at a training keeps its intermediate checkpoints, and what it goes on from.

    Attributes:
        folder: nobody but this attempt writes there.
        identity: names the training; a checkpoint of another one is of no use.
        resume_from: a whole intermediate checkpoint in the folder; None begins from the policy.
    """

    folder: Path
    identity: str
    resume_from: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """What a training is about to do.

    Attributes:
        steps: optimiser steps in all.
        resumed_at: steps that are done already.
        examples: pairs or examples trained on.
        truncated: how many of them are cut to `maximum_tokens`.
        left_out: pairs or examples whose prompt alone fills the limit.
        lengths: tokens before any cut by part (`prompt`, `chosen` …) and quantile (`min`, `median` …).
    """

    steps: int
    resumed_at: int
    examples: int
    truncated: int
    left_out: int
    lengths: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """An optimiser step that has been done.

    Attributes:
        metrics: of this step, by TRL's names (`loss`, `rewards/margins` …), and `tokens_per_second`.
    """

    step: int
    steps: int
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True)
class TrainingSaved:
    """An intermediate checkpoint is whole: another attempt can go on from this step."""

    step: int


TrainingEvent = TrainingStart | TrainingStep | TrainingSaved
ProgressCallback = Callable[[TrainingEvent], None]
"""Told what a training does, as it happens; an error that it raises ends the training."""


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        checkpoint: the folder with the new model (Hugging Face layout).
        examples: pairs or examples trained on.
        truncated: how many of them were cut to `maximum_tokens`.
        steps: optimiser steps.
        metrics: by name (`loss`, `rewards/margins`, …) the mean over all steps, and under `last/` the last.
    """

    checkpoint: Path
    examples: int
    truncated: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)


class Trainer(Protocol):
    """Trains a policy. The checkpoint is written aside and renamed: it is whole or absent."""

    layout: str
    """How processes share the training; an intermediate checkpoint fits the same layout only."""

    def dpo(
        self,
        policy: Path,
        pairs: Sequence[TrainingPair],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
        intermediate: Intermediate | None = None,
    ) -> TrainingReport:
        """Direct preference optimisation from `policy`, which is also the frozen reference."""
        ...

    def sft(
        self,
        policy: Path,
        examples: Sequence[TrainingExample],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
        intermediate: Intermediate | None = None,
    ) -> TrainingReport:
        """Supervised fine-tuning on responses, prompt tokens masked."""
        ...


_OF_A_SECTION = tuple(field.name for field in fields(TrainingSettings) if field.name != "seed")


def training_settings(section: OptimisationSection, seed: int) -> TrainingSettings:
    """The settings that a section gives; what it does not know keeps the trainer's default."""
    given = {name: getattr(section, name) for name in _OF_A_SECTION if hasattr(section, name)}
    return TrainingSettings(**given, seed=seed)
