"""Process reward models: a backbone without vocabulary logits, and a head at the end of each step."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from transformers import AutoModel

from hsstar.domain.errors import CheckpointError
from hsstar.engines.loading import (
    TokenIds,
    context_length,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
    read_tensors,
)
from hsstar.engines.rewards.base import PackedRewardModel, ScoredText
from hsstar.engines.rewards.token_tree import grow_tree, tree_sizes
from hsstar.engines.rewards.tree_attention import TREE_ATTENTION, TreePaths, choose_kernel

_SAVED_WRAPPER = {r"^pretrained_model\.": ""}
"""Prefix of weights that were saved inside TRL's value-head wrapper."""


class BackboneRewardModel(PackedRewardModel):
    """Scores steps with the last hidden state of a backbone and the small head of a subclass.

    The texts of a batch are one row without padding, and a shared beginning occurs once: the samples of a
    problem share its statement, and often their first steps. Every text attends to its own tokens only, so
    a score does not depend on the batch, up to rounding.
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
        self._path = path = Path(model)
        self._kernel = choose_kernel(attention)
        self._tokenizer = load_tokenizer(path)
        self._head = [tensor.to(self._device) for tensor in read_tensors(path, self.head_names)]
        self._model = load_model(
            AutoModel,
            path,
            self._device,
            pick_dtype(dtype, self._device),
            key_mapping=_SAVED_WRAPPER,
            attn_implementation=TREE_ATTENTION,
        )
        self._context = context_length(self._model.config)

    @abstractmethod
    def _rewards(self, hidden: Tensor) -> Tensor:
        """Return rewards, (steps,), from float32 hidden states at the ends of steps, (steps, width)."""

    def _order(self, text: ScoredText) -> TokenIds:
        return text.tokens  # texts that begin alike stand side by side

    def _sizes(self, texts: Sequence[ScoredText]) -> Iterator[int]:
        return tree_sizes([text.tokens for text in texts])

    @torch.inference_mode()
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        tree = grow_tree([text.tokens for text in texts])
        paths = TreePaths(self._kernel, [self._row(path) for path in tree.paths])
        hidden = self._model(
            input_ids=self._row(tree.tokens)[None],
            position_ids=self._row(tree.positions)[None],
            use_cache=False,
            tree=paths,
        ).last_hidden_state[0]
        if paths.layers != self._model.config.get_text_config().num_hidden_layers:
            raise CheckpointError(f"{self._path}: transformers cannot exchange the attention of its layers")
        ends = [path[end] for text, path in zip(texts, tree.paths, strict=True) for end in text.ends]
        rewards = iter(self._rewards(hidden[ends].float()).tolist())
        return [tuple(next(rewards) for _ in text.ends) for text in texts]

    def _row(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, device=self._device)
