"""What process reward models share: a backbone without vocabulary logits, and a head at the steps' ends."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModel

from hsstar.engines.checkpoint_tensors import read_tensors
from hsstar.engines.loading import (
    context_length,
    free_memory,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
)
from hsstar.engines.packed_reward_model import PackedRewardModel, ScoredText, attention_options

_SAVED_WRAPPER = {r"^pretrained_model\.": ""}
"""Weights saved with TRL's value-head wrapper around them carry its name in front."""


class BackboneRewardModel(PackedRewardModel):
    """Scores steps with the last hidden state of a backbone and the small head of a subclass.

    A score does not depend on its batch up to rounding: texts are padded on the right, where causal
    attention cannot see the padding. So no attention mask is passed, which lets PyTorch take its
    fastest causal kernel.
    """

    head_names: ClassVar[tuple[str, ...]]
    """Names of the head's tensors in the checkpoint."""

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        attention: str = "auto",
    ) -> None:
        super().__init__(pick_device(device), batch_tokens)
        path = Path(model)
        self._tokenizer = load_tokenizer(path)
        self._head = [tensor.to(self._device) for tensor in read_tensors(path, self.head_names)]
        self._backbone = load_model(
            AutoModel,
            path,
            self._device,
            pick_dtype(dtype, self._device),
            key_mapping=_SAVED_WRAPPER,
            **attention_options(attention),
        )
        self._context = context_length(self._backbone.config)

    @abstractmethod
    def _rewards(self, hidden: Tensor) -> Tensor:
        """From float32 hidden states at the ends of steps, (steps, width), to rewards, (steps,)."""

    def close(self) -> None:
        """Frees the model's memory."""
        self._backbone = None
        free_memory(self._device)

    @torch.inference_mode()
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        width = max(len(text.tokens) for text in texts)
        padded = [text.tokens + [0] * (width - len(text.tokens)) for text in texts]
        inputs = torch.tensor(padded, device=self._device)
        hidden = self._backbone(input_ids=inputs, use_cache=False).last_hidden_state
        rows = [row for row, text in enumerate(texts) for _ in text.ends]
        ends = [end for text in texts for end in text.ends]
        rewards = iter(self._rewards(hidden[rows, ends].float()).tolist())
        return [tuple(next(rewards) for _ in text.ends) for text in texts]
