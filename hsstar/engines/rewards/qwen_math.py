"""Qwen2.5-Math-PRM: a causal language model's backbone with a two-class head at every step's end."""

from pathlib import Path
from typing import Any

import transformers
from torch import Tensor
from torch.nn.functional import linear, relu

from hsstar.domain.errors import CheckpointError
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.rewards.backbone import BackboneRewardModel
from hsstar.engines.rewards.base import ScoredText
from hsstar.engines.rewards.contract import RewardRequest

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
STEP_END = "<extra_0>"


class QwenMathRenderer:
    """Renders requests as the chat of the model card, with a special token after every step."""

    def __init__(self, model: Path) -> None:
        self._tokenizer = load_tokenizer(model)
        ids = self._tokenizer.encode(STEP_END, add_special_tokens=False)
        if len(ids) != 1 or self._tokenizer.chat_template is None:
            raise CheckpointError(f"{model}: its tokenizer needs a chat template and the token {STEP_END}")
        self.step_end_id: int = ids[0]

    def render(self, request: RewardRequest) -> ScoredText:
        """Render system prompt, problem and response; steps end at their special tokens."""
        steps = [_without_step_end(step) for step in request.steps]
        chat = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": _without_step_end(request.problem)},
            {"role": "assistant", "content": "".join(step + STEP_END for step in steps)},
        ]
        rendered = self._tokenizer.apply_chat_template(chat, tokenize=False)
        tokens = list(self._tokenizer.encode(rendered, add_special_tokens=False))
        ends = (place for place, token in enumerate(tokens) if token == self.step_end_id)
        return ScoredText(tokens, tuple(ends))


class QwenMathRewardModel(BackboneRewardModel):
    """Step reward = softmax probability of class 1 at the step's end (model card of Qwen2.5-Math-PRM-7B)."""

    name = f"qwen-math-prm on transformers {transformers.__version__}"
    head_names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")

    def __init__(self, model: str | Path, **options: Any) -> None:
        self._renderer = QwenMathRenderer(Path(model))
        super().__init__(model, **options)

    def _text(self, request: RewardRequest) -> ScoredText:
        return self._renderer.render(request).within(self._context)

    def _rewards(self, hidden: Tensor) -> Tensor:
        first_weight, first_bias, last_weight, last_bias = self._head
        inner = relu(linear(hidden, first_weight, first_bias))
        return linear(inner, last_weight, last_bias).softmax(-1)[:, 1]


def _without_step_end(text: str) -> str:
    while STEP_END in text:
        text = text.replace(STEP_END, "")
    return text
