"""What a sampler does."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from hsstar.domain.answers.thinking import Thinking

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class SamplingParameters:
    """How completions are drawn: temperature 0 is greedy, `top_p` in (0, 1], cut before a `stop` string.

    A token of `stop_token_ids` ends a completion as the end-of-text token does. Of the most probable tokens,
    `top_k` (0: no limit) cuts before `top_p`, and `min_p`, a share of the highest probability, after it.

    A completion that has `thinking_tokens` tokens (0: no budget) and still thinks gets the closing mark; the
    tokens of the mark count, but not in `cumulative_logprob`.
    """

    temperature: float
    top_p: float
    max_new_tokens: int
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    thinking: Thinking | None = None
    thinking_tokens: int = 0


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A rendered prompt and its seed in [0, 2**63); model, parameters and they decide the completion."""

    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One drawn completion: `text` ends before a stop string or end-of-text token, which `tokens` counts.

    `cumulative_logprob` is that of the generated tokens under the raw (temperature 1, untruncated)
    distribution, in nats; None from a server that gives none. `milliseconds` is the wall clock in the engine.
    """

    text: str
    tokens: int
    finish_reason: FinishReason
    cumulative_logprob: float | None
    milliseconds: float = field(compare=False)


class Sampler(Protocol):
    """Draws completions from a policy. A completion never depends on its batch neighbours.

    Several threads may draw at once; an engine that cannot overlap their draws runs one after the other.
    """

    name: str
    """Engine and version, as recorded with each sample."""

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Yield index and result of each request once, as it ends, in any order.

        A result is a completion, or the reason why this request alone has none (such as a prompt longer than
        the model's context). Closing the iterator abandons unfinished requests.

        Raise EngineMemoryError if these are too many requests at once, EngineDeadError if the engine must be
        closed and built anew.
        """
        ...

    def reload(self, model: Path) -> None:
        """Replace all weights by those of another policy of the same architecture; no draw may run meanwhile.

        Raise CheckpointError if the folder holds no such policy, EngineDeadError if the engine must be built
        anew. After any error it must be closed.
        """
        ...

    def close(self) -> None:
        """Free the model's memory."""
        ...


@runtime_checkable
class SupportsSleep(Protocol):
    """An optional ability of a sampler: it frees the device's memory and comes back quickly."""

    def sleep(self) -> None:
        """Free the memory of the device; no draw may run meanwhile."""
        ...

    def wake(self) -> None:
        """Load the same weights again; after an error the engine must be closed."""
        ...
