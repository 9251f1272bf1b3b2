"""What a sampler has to do."""

from collections.abc import Iterator, Sequence
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
class SupportsSleep(Protocol):
    """What a sampler may offer besides: giving the device's memory away and coming back quickly."""

    def sleep(self) -> None:
        """Frees the memory of the device; no draw may be under way."""
        ...

    def wake(self) -> None:
        """Takes it again, with the weights as before; after an error the engine has to be closed."""
        ...
