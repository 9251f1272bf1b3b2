"""What an engine has to do, one contract per kind. Engines know the domain and never the store."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How completions are drawn.

    Attributes:
        temperature: 0 means greedy.
        top_p: nucleus mass in (0, 1].
        max_new_tokens: length limit of a completion, in tokens.
        stop: a completion ends before the first of these strings.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """One completion to draw.

    Attributes:
        prompt: rendered text.
        seed: decides the completion together with prompt, model and parameters, in [0, 2**63).
    """

    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One drawn completion.

    Attributes:
        text: what follows the prompt, without end-of-text token and stop string.
        tokens: generated tokens, the end-of-text token included.
        finish_reason: `stop` (end of text or stop string) or `length`.
        cumulative_logprob: sum of the log-probabilities of the generated tokens under the raw
            (temperature 1, untruncated) distribution, in nats.
        milliseconds: wall clock from the time when the engine took the request up until its end.
    """

    text: str
    tokens: int
    finish_reason: FinishReason
    cumulative_logprob: float
    milliseconds: float = field(compare=False)


class Sampler(Protocol):
    """Draws completions from a policy. A completion never depends on its batch neighbours.

    Several threads may draw at once; an engine that cannot overlap their work does it in turns.
    """

    name: str
    """Engine and version, as recorded with each sample."""

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Yields index and result of each request once, as soon as it is known, in any order.

        A result is a completion, or the reason why this prompt has none. A reason (a prompt longer than
        the model's context, say) concerns its own request only. Closing the iterator abandons what is
        not finished.

        Raises:
            EngineMemoryError: these are too many requests at once.
            EngineDeadError: the engine has to be closed and built anew.
        """
        ...

    def reload(self, model: Path) -> None:
        """Takes the weights of another policy of the same architecture; nothing of the old ones remains.

        No draw may be under way. After an error the engine has to be closed.

        Raises:
            CheckpointError: the folder holds no such policy.
            EngineDeadError: the engine has to be built anew.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


@runtime_checkable
class Sleeper(Protocol):
    """What a sampler may offer besides: giving the device's memory away and coming back quickly."""

    def sleep(self) -> None:
        """Frees the memory of the device; no draw may be under way."""
        ...

    def wake(self) -> None:
        """Takes it again, with the weights as before; after an error the engine has to be closed."""
        ...


@dataclass(frozen=True, slots=True)
class RewardRequest:
    """One response whose steps are to be scored.

    Attributes:
        problem: the problem's statement.
        steps: from `domain.steps.split_steps`.
    """

    problem: str
    steps: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepRewards:
    """The scores of one response.

    Attributes:
        rewards: one number in [0, 1] per scored step, shape (steps,).
        truncated: steps at the end were left out because the text exceeds the model's context.
    """

    rewards: tuple[float, ...]
    truncated: bool = False


class ProcessRewardModel(Protocol):
    """Scores every step of a response. A score never depends on its batch neighbours."""

    name: str

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """One result per request, in order. A request without steps gets no rewards."""
        ...

    def close(self) -> None:
        """Frees the model's memory."""
        ...


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
