"""What process reward models share: a backbone without vocabulary logits, and a head at the steps' ends."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModel

from hsstar.engines.checkpoint_tensors import read_tensors
from hsstar.engines.contracts import RewardRequest, StepRewards
from hsstar.engines.loading import (
    TokenIds,
    context_length,
    free_memory,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
)

PASS_TOKENS = {"cpu": 4_096, "cuda": 16_384}
"""Tokens, padding included, that pass through the backbone at once: on a CPU what its caches hold."""
_SAVED_WRAPPER = {r"^pretrained_model\.": ""}
"""Weights saved with TRL's value-head wrapper around them carry its name in front."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """A problem and its steps as the model reads them.

    Attributes:
        tokens: the whole input.
        ends: for each step, the position in `tokens` that its reward is read from, ascending.
        truncated: steps at the end were left out.
    """

    tokens: TokenIds
    ends: tuple[int, ...]
    truncated: bool = False

    def within(self, context: int) -> "ScoredText":
        """The text cut at the last step border within `context` tokens.

        Attention is causal: what follows the last scored position has no influence.
        """
        if len(self.tokens) <= context:
            return self
        ends = tuple(end for end in self.ends if end < context)
        kept = ends[-1] + 1 if ends else 0
        return ScoredText(self.tokens[:kept], ends, truncated=len(ends) < len(self.ends))


class BackboneRewardModel(ABC):
    """Scores steps with the last hidden state of a backbone and the small head of a subclass.

    A score does not depend on its batch up to rounding: texts are padded on the right, where causal
    attention cannot see the padding.
    """

    name: str
    head_names: ClassVar[tuple[str, ...]]
    """Names of the head's tensors in the checkpoint."""

    def __init__(self, model: str | Path, *, device: str = "auto", dtype: str = "auto") -> None:
        path = Path(model)
        self._device = pick_device(device)
        self._tokenizer = load_tokenizer(path)
        self._head = [tensor.to(self._device) for tensor in read_tensors(path, self.head_names)]
        number_format = pick_dtype(dtype, self._device)
        self._backbone = load_model(AutoModel, path, self._device, number_format, key_mapping=_SAVED_WRAPPER)
        self._pass_tokens = PASS_TOKENS.get(self._device.type, PASS_TOKENS["cuda"])
        self._context = context_length(self._backbone.config)

    @abstractmethod
    def _text(self, request: RewardRequest) -> ScoredText:
        """The request as the model reads it."""

    @abstractmethod
    def _rewards(self, hidden: Tensor) -> Tensor:
        """From float32 hidden states at the ends of steps, (steps, width), to rewards, (steps,)."""

    def score(self, requests: Sequence[RewardRequest]) -> list[StepRewards]:
        """The step rewards of each request, in order; steps beyond the context get none."""
        texts = [self._text(request).within(self._context) for request in requests]
        results = [StepRewards((), text.truncated) for text in texts]
        for batch in _batches(texts, self._pass_tokens):
            rewards = self._score_batch([texts[index] for index in batch])
            for index, row in zip(batch, rewards, strict=True):
                results[index] = StepRewards(row, texts[index].truncated)
        return results

    def close(self) -> None:
        """Frees the model's memory."""
        self._backbone = None
        free_memory(self._device)

    @torch.inference_mode()
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        width = max(len(text.tokens) for text in texts)
        padded = [text.tokens + [0] * (width - len(text.tokens)) for text in texts]
        lengths = torch.tensor([len(text.tokens) for text in texts], device=self._device)
        attended = torch.arange(width, device=self._device)[None] < lengths[:, None]
        hidden = self._backbone(
            input_ids=torch.tensor(padded, device=self._device),
            attention_mask=attended.long(),
            use_cache=False,
        ).last_hidden_state
        rows = [row for row, text in enumerate(texts) for _ in text.ends]
        ends = [end for text in texts for end in text.ends]
        rewards = iter(self._rewards(hidden[rows, ends].float()).tolist())
        return [tuple(next(rewards) for _ in text.ends) for text in texts]


def _batches(texts: Sequence[ScoredText], pass_tokens: int) -> Iterator[list[int]]:
    """Indices of texts with steps, grouped by like length, `pass_tokens` a group, longest first."""
    batch: list[int] = []
    width = 0
    for index in sorted(range(len(texts)), key=lambda index: -len(texts[index].tokens)):
        if not texts[index].ends:
            continue
        if not batch or (len(batch) + 1) * width > pass_tokens:
            if batch:
                yield batch
            batch, width = [], len(texts[index].tokens)
        batch.append(index)
    if batch:
        yield batch
