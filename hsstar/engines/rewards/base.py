"""How reward models on PyTorch work off requests: batches by the tokens that pass through the model."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

from hsstar.domain.errors import EngineMemoryError
from hsstar.engines.loading import TokenIds, free_memory, naming_memory_errors
from hsstar.engines.rewards.contract import RewardRequest, StepRewards

BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}
"""Tokens that pass through a model at once, what padding there is included: on a CPU what its caches hold."""


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
    """Scores texts in batches that are filled by token count.

    Unless a subclass knows better, texts are padded to the longest of their batch: then the longest come
    first, so that those of a batch are of like length and little of it is padding. Where the device's
    memory does not hold a batch, it is halved, and the model keeps to the smaller size from then on.
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

    def _order(self, text: ScoredText) -> list[int]:
        """What texts are sorted by."""
        return [-len(text.tokens)]

    def _sizes(self, texts: Sequence[ScoredText]) -> Iterator[int]:
        """Tokens that pass through the model in a batch of the first of sorted texts, of the first two …"""
        return (count * len(texts[0].tokens) for count in range(1, len(texts) + 1))

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """The rewards of each request, in order; steps beyond the context get none.

        Raises:
            EngineMemoryError: a text alone does not fit into the device's memory.
        """
        texts = [self._text(request) for request in requests]
        results = [StepRewards((), text.truncated) for text in texts]
        places = sorted(
            (place for place, text in enumerate(texts) if text.ends),
            key=lambda place: self._order(texts[place]),
        )
        while places:
            batch = places[: self._fitting([texts[place] for place in places])]
            rewards = self._score_in_memory([texts[place] for place in batch])
            if rewards is None:
                continue
            for place, row in zip(batch, rewards, strict=True):
                results[place] = StepRewards(row, texts[place].truncated)
            places = places[len(batch) :]
        return results

    def _fitting(self, texts: Sequence[ScoredText]) -> int:
        """How many of the first texts make a batch: one at least."""
        return max(1, sum(1 for _ in takewhile(lambda size: size <= self._batch_tokens, self._sizes(texts))))

    def _score_in_memory(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]] | None:
        """The rewards of a batch of sorted texts; None where it is too large: half is allowed next."""
        try:
            with naming_memory_errors():
                return self._score_batch(texts)
        except EngineMemoryError as error:
            if len(texts) == 1:
                length = len(texts[0].tokens)
                raise EngineMemoryError(
                    f"{self.name}: a text of {length} tokens alone does not fit: {error}"
                ) from error
        *_, size = self._sizes(texts)
        self._batch_tokens = size // 2
        free_memory(self._device)
        return None
