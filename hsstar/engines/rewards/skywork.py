"""Skywork-o1-Open-PRM: a causal language model with a value head on its last hidden state."""

from pathlib import Path
from typing import Any

import transformers
from torch import Tensor
from torch.nn.functional import linear

from hsstar.engines.loading import TokenIds
from hsstar.engines.rewards.backbone import BackboneRewardModel
from hsstar.engines.rewards.base import ScoredText
from hsstar.engines.rewards.contract import RewardRequest

STEP_SEPARATOR = "\n"
"""The published separator: its last token ends every step in the model's input."""


class SkyworkRenderer:
    """Renders requests as the published code does: each step ends with the separator's token."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._separator_id = self._encode(STEP_SEPARATOR)[-1]

    def render(self, request: RewardRequest) -> ScoredText:
        """Render problem and steps; steps end at their separators."""
        tokens = self._encode((self._tokenizer.bos_token or "") + request.problem + "\n")
        ends = []
        for step in request.steps:
            tokens += [*self._encode(step), self._separator_id]
            ends.append(len(tokens) - 1)
        return ScoredText(tokens, tuple(ends))

    def _encode(self, text: str) -> TokenIds:
        return list(self._tokenizer.encode(text, add_special_tokens=False))


class SkyworkRewardModel(BackboneRewardModel):
    """Step reward = sigmoid of the value at the step's separator (Skywork-o1-Open-PRM's published code)."""

    name = f"skywork-prm on transformers {transformers.__version__}"
    head_names = ("v_head.summary.weight", "v_head.summary.bias")

    def __init__(self, model: str | Path, **options: Any) -> None:
        super().__init__(model, **options)
        self._renderer = SkyworkRenderer(self._tokenizer)

    def _text(self, request: RewardRequest) -> ScoredText:
        return self._renderer.render(request).within(self._context)

    def _rewards(self, hidden: Tensor) -> Tensor:
        weight, bias = self._head
        return linear(hidden, weight, bias)[:, 0].sigmoid()
