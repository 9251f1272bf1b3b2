"""What an engine has to do, one contract per kind. Engines know the domain and never the store."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from hsstar.domain.verdict import Judgement

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
    """

    text: str
    tokens: int
    finish_reason: FinishReason
    cumulative_logprob: float


class Sampler(Protocol):
    """Draws completions from a policy. A completion never depends on its batch neighbours."""

    name: str
    """Engine and version, as recorded with each sample."""

    def sample(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> list[Completion | str]:
        """One result per request, in order: a completion, or the reason why this prompt has none.

        A reason (a prompt longer than the model's context, say) concerns its own request only.
        """
        ...

    def close(self) -> None:
        """Frees the model's memory."""
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
class VerificationRequest:
    """One response to verify against a reference answer.

    Attributes:
        response: the whole response.
        reference: the problem's reference answer.
        truncated: the response was cut at its token limit.
    """

    response: str
    reference: str
    truncated: bool = False


class Verifier(Protocol):
    """Decides whether final answers are equivalent to their references. Never hangs, never raises."""

    version: str

    def verify(self, requests: Sequence[VerificationRequest]) -> list[Judgement]:
        """One judgement per request, in order."""
        ...

    def close(self) -> None:
        """Ends the checking processes."""
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
        beta: strength of the DPO constraint; unused by supervised fine-tuning.
        nll_weight: weight of an added negative log-likelihood of the chosen response (0: none).
        dtype: `auto` is bfloat16 on a GPU and float32 on a CPU.
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
    nll_weight: float = 0.0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What a training run did.

    Attributes:
        checkpoint: the folder with the new model (Hugging Face layout).
        examples: pairs or examples trained on.
        truncated: how many of them were cut to `maximum_tokens`.
        steps: optimiser steps.
        metrics: last or mean values by name (`loss`, `rewards/margins`, …).
    """

    checkpoint: Path
    examples: int
    truncated: int
    steps: int
    metrics: dict[str, float] = field(default_factory=dict)


ProgressCallback = Callable[[int, int], None]
"""Called with (optimiser steps done, optimiser steps in all)."""


class Trainer(Protocol):
    """Trains a policy. The checkpoint is written aside and renamed: it is whole or absent."""

    def dpo(
        self,
        policy: Path,
        pairs: Sequence[TrainingPair],
        settings: TrainingSettings,
        output: Path,
        progress: ProgressCallback | None = None,
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
    ) -> TrainingReport:
        """Supervised fine-tuning on responses, prompt tokens masked."""
        ...
