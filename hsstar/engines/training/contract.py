"""What a trainer does: the task, the events on the way, and the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal, Protocol

from hsstar.domain.rounding import WeightUpdate
from hsstar.recipe.base import NumberFormat
from hsstar.recipe.training import OptimisationSection


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """One preference pair as text; which of its responses were cut at their token limit."""

    prompt: str
    chosen: str
    rejected: str
    chosen_cut: bool = False
    rejected_cut: bool = False


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """One example for supervised fine-tuning; the loss leaves the prompt out.

    `cut` tells whether the response was cut at its token limit.
    """

    prompt: str
    response: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class TrainingVerdict:
    """A response that is desirable or not, without another one beside it.

    `cut` tells whether it was cut at its token limit.
    """

    prompt: str
    response: str
    desirable: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class TrainingSteps:
    """A response in steps with a label in [0, 1] for each; the loss leaves out steps without one (None)."""

    problem: str
    steps: tuple[str, ...]
    labels: tuple[float | None, ...]


TrainingRow = TrainingPair | TrainingVerdict | TrainingExample | TrainingSteps
Objective = Literal["dpo", "kto", "sft", "prm"]
ROWS: dict[Objective, type[TrainingRow]] = {
    "dpo": TrainingPair,
    "kto": TrainingVerdict,
    "sft": TrainingExample,
    "prm": TrainingSteps,
}


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """Optimisation settings of all objectives (METHOD step 7).

    Only `dpo` and `kto` use `beta` and `precompute_reference_logprobs`, only `dpo` the three between, only
    `kto` the two weights.

    Attributes:
        batch_size: rows per optimiser step.
        micro_batch_size: rows that pass through the model at once.
        maximum_tokens: of prompt and response together; a longer response is cut at its end.
        loss_type: the preference loss by TRL's name.
        label_smoothing: assumed share of swapped pairs, for the losses that support it.
        nll_weight: weight of the added negative log-likelihood of the chosen response (0: none).
        desirable_weight, undesirable_weight: of the two kinds of rows in KTO's loss.
        gradient_checkpointing: None: on a GPU only.
        lora_rank: of the adapters to train (0: train the weights themselves).
        lora_target_modules: names of the adapted layers; empty: every linear layer but the head.
        lora_merge: whether the checkpoint is whole, or the adapters beside their base.
        dtype: of the arithmetic; trained weights are float32.
        save_every_steps: 0: no intermediate checkpoints; None: every tenth, at least half a minute apart.
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
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    save_dtype: NumberFormat = "float32"
    save_rounding: Literal["nearest", "stochastic"] = "nearest"
    gradient_checkpointing: bool | None = None
    lora_rank: int = 0
    lora_alpha: float = 32.0
    lora_dropout: float = 0.0
    lora_target_modules: tuple[str, ...] = ()
    lora_merge: bool = True
    quantization: Literal["none", "4bit"] = "none"
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    save_every_steps: int | None = None


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """Where only this attempt writes checkpoints, and the one to resume from (None: the policy)."""

    folder: Path
    identity: str
    checkpoint: Path | None = None


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """A training to run: pairs for `dpo` (direct preference optimisation), examples for `sft`.

    `kto` (Kahneman-Tversky optimisation) takes responses with their verdicts. With labelled steps `prm` makes
    a process reward model in Skywork's layout from the policy.

    `policy` is the folder to start from, for `dpo` and `kto` also the frozen reference, and `output` that of
    the new checkpoint. Without `resume_point` no intermediate checkpoints are written. `location` is how
    adapters on the policy name their base; empty: its folder.
    """

    objective: Objective
    policy: Path
    rows: Sequence[TrainingRow]
    settings: TrainingSettings
    output: Path
    resume_point: ResumePoint | None = None
    location: str = ""

    @property
    def keeps_adapters(self) -> bool:
        """Tell whether the new checkpoint is adapters beside their base."""
        return self.settings.lora_rank > 0 and not self.settings.lora_merge


@dataclass(frozen=True, slots=True)
class TrainingStart:
    """The size of a training, known before its first step; `resumed_at` steps are an earlier attempt's.

    `truncated` counts rows cut to `maximum_tokens`, `left_out` those that teach nothing, by reason. `lengths`
    are tokens before any cut, by part (`prompt`, `chosen` …) and quantile (`min`, `median` …).
    """

    steps: int
    resumed_at: int
    examples: int
    truncated: int
    left_out: dict[str, int]
    lengths: dict[str, dict[str, int]]

    def describe_left_out(self) -> str:
        """Return how many rows are left out and why, as in `3 left out (2 × equal responses, …)`."""
        reasons = ", ".join(f"{count} × {reason}" for reason, count in self.left_out.items())
        return f"{sum(self.left_out.values())} left out" + (f" ({reasons})" if reasons else "")


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """A finished optimiser step, with metrics by TRL's names (`loss` …) and `tokens_per_second`."""

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
    """The result of a training; `checkpoint` has the Hugging Face layout, `truncated` counts cut rows.

    `metrics` has the mean of each metric over all steps, and under `last/` its last value. `updates` has a
    row per layer and number format, and those of the whole policy.
    """

    checkpoint: Path
    examples: int
    truncated: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)
    updates: tuple[WeightUpdate, ...] = ()


class Trainer(Protocol):
    """Trains policies, and reward models from them."""

    layout: str
    """How processes share the training; an intermediate checkpoint fits the same layout only."""

    def train(self, task: TrainingTask, progress: ProgressCallback | None = None) -> TrainingReport:
        """Run a training; the checkpoint in `task.output` is whole or absent.

        Raise CheckpointError if the policy cannot be loaded, BadInputError if no row can be trained on, and
        EngineError if training ran out of memory or diverged, or the disk has no room.
        """
        ...


_OF_A_SECTION = tuple(field.name for field in fields(TrainingSettings) if field.name != "seed")


def training_settings(section: OptimisationSection, seed: int) -> TrainingSettings:
    """Return the settings of a recipe section; a setting that it lacks keeps its default."""
    chosen = {name: getattr(section, name) for name in _OF_A_SECTION if hasattr(section, name)}
    return TrainingSettings(**chosen, seed=seed)
