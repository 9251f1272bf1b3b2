"""Scores requests in batches of limited tokens, for reward models on PyTorch."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch

from hsstar.domain.errors import EngineMemoryError
from hsstar.engines.device import clear_memory
from hsstar.engines.loading import TokenIds, naming_memory_errors
from hsstar.engines.rewards.contract import RewardRequest, StepRewards

BATCH_TOKENS = {"cpu": 4_096, "cuda": 16_384}
"""Tokens of a batch, padding included; a CPU's caches hold this many."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A problem and its steps as the model reads them, with the ascending positions (`ends`) of rewards.

    `segments` says 0 or 1 for each token, for models that read pairs of texts.
    """

    tokens: TokenIds
    ends: tuple[int, ...]
    truncated: bool = False
    segments: TokenIds | None = None

    def within(self, context: int) -> "ScoredText":
        """Cut the text at the last step border within `context`; attention is causal, so scores stay."""
        if len(self.tokens) <= context:
            return self
        ends = tuple(end for end in self.ends if end < context)
        kept = ends[-1] + 1 if ends else 0
        return ScoredText(self.tokens[:kept], ends, truncated=len(ends) < len(self.ends))


class PackedRewardModel(ABC):
    """Scores texts in padded batches, longest first; if memory does not hold one, the limit is halved."""

    name: str
    _model: Any

    def __init__(self, device: torch.device, batch_tokens: int | None) -> None:
        self._device = device
        self._batch_tokens = batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cuda"])

    @abstractmethod
    def _text(self, request: RewardRequest) -> ScoredText:
        """Return the request as the model reads it, cut to the model's context."""

    @abstractmethod
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        """Return the rewards at the ends of each text, in order."""

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        clear_memory()

    def _order(self, text: ScoredText) -> list[int]:
        return [-len(text.tokens)]

    def _sizes(self, texts: Sequence[ScoredText]) -> Iterator[int]:
        """Yield the tokens of a batch of the first text, of the first two texts …; texts are sorted."""
        return (count * len(texts[0].tokens) for count in range(1, len(texts) + 1))

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """Score requests in order; raise EngineMemoryError if a single one does not fit into memory."""
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
        return max(1, sum(1 for _ in takewhile(lambda size: size <= self._batch_tokens, self._sizes(texts))))

    def _score_in_memory(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]] | None:
        """Score a batch of sorted texts; if it is too large, halve the limit and return None."""
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
        clear_memory()
        return None
