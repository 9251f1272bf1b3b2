"""How reward models on PyTorch work off requests: like lengths together, a batch by its padded tokens."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec

import torch

from hsstar.domain.errors import EngineMemoryError, MissingDependencyError
from hsstar.engines.contracts import RewardRequest, StepRewards
from hsstar.engines.loading import TokenIds, free_memory, naming_memory_errors

BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}
"""Tokens, padding included, that pass through a model at once: on a CPU what its caches hold."""


def attention_options(attention: str) -> dict[str, str]:
    """What `from_pretrained` is told of the attention implementation; nothing for `auto`.

    It takes scaled dot-product attention (sdpa) by itself where the architecture has it.

    Raises:
        MissingDependencyError: the implementation is a package that is not installed.
    """
    if attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise MissingDependencyError("reward.attention = 'flash_attention_2' needs the package flash-attn")
    return {} if attention == "auto" else {"attn_implementation": attention}


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A problem and its steps as the model reads them.

    Attributes:
        tokens: the whole input.
        ends: for each reward, the position in `tokens` that it is read from, ascending.
        truncated: steps at the end were left out.
        segments: for each token, which of a pair of texts it is of, where the model reads pairs.
    """

    tokens: TokenIds
    ends: tuple[int, ...]
    truncated: bool = False
    segments: TokenIds | None = None

    def within(self, context: int) -> "ScoredText":
        """The text cut at the last step border within `context` tokens.

        Attention is causal: what follows the last scored position has no influence.
        """
        if len(self.tokens) <= context:
            return self
        ends = tuple(end for end in self.ends if end < context)
        kept = ends[-1] + 1 if ends else 0
        return ScoredText(self.tokens[:kept], ends, truncated=len(ends) < len(self.ends))


class PackedRewardModel(ABC):
    """Scores texts in batches that are filled by token count, longest texts first.

    Texts of like length share a batch, so that little of it is padding. Where the device's memory does
    not hold a batch, it is halved, and the model keeps to the smaller size from then on.
    """

    name: str

    def __init__(self, device: torch.device, batch_tokens: int | None) -> None:
        self._device = device
        self._batch_tokens = batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])

    @abstractmethod
    def _text(self, request: RewardRequest) -> ScoredText:
        """The request as the model reads it, cut to the model's context."""

    @abstractmethod
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        """The rewards at the ends of each text, in order."""

    @abstractmethod
    def close(self) -> None:
        """Frees the model's memory."""

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """The rewards of each request, in order; steps beyond the context get none.

        Raises:
            EngineMemoryError: a text alone does not fit into the device's memory.
        """
        texts = [self._text(request) for request in requests]
        results = [StepRewards((), text.truncated) for text in texts]
        waiting = [index for index, text in enumerate(texts) if text.ends]
        waiting.sort(key=lambda index: -len(texts[index].tokens))
        while waiting:
            width = len(texts[waiting[0]].tokens)
            batch = waiting[: max(1, self._batch_tokens // width)]
            rewards = self._score_in_memory([texts[index] for index in batch])
            if rewards is None:
                continue
            for index, row in zip(batch, rewards, strict=True):
                results[index] = StepRewards(row, texts[index].truncated)
            waiting = waiting[len(batch) :]
        return results

    def _score_in_memory(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]] | None:
        """The rewards of a batch, longest text first; None where it is too large: half is allowed next."""
        width = len(texts[0].tokens)
        try:
            with naming_memory_errors():
                return self._score_batch(texts)
        except EngineMemoryError as error:
            if len(texts) == 1:
                raise EngineMemoryError(
                    f"{self.name}: a text of {width} tokens alone does not fit: {error}"
                ) from error
        self._batch_tokens = len(texts) // 2 * width
        free_memory(self._device)
        return None
