"""Qwen2.5-Math-PRM: a causal language model's backbone with a two-class head at every step's end."""

from pathlib import Path

import transformers
from torch import Tensor
from torch.nn.functional import linear, relu

from hsstar.domain.errors import CheckpointError
from hsstar.engines.backbone_reward_model import BackboneRewardModel, ScoredText
from hsstar.engines.contracts import RewardRequest

SYSTEM_PROMPT = "Please reason step by step, and put your final answer within \\boxed{}."
STEP_END = "<extra_0>"


class QwenMathRewardModel(BackboneRewardModel):
    """Step reward = softmax probability of class 1 at the special token that ends the step.

    Source: the model card of Qwen2.5-Math-PRM-7B (`Qwen2ForProcessRewardModel`).
    """

    name = f"qwen-math-prm on transformers {transformers.__version__}"
    head_names = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")

    def __init__(self, model: str | Path, *, device: str = "auto", dtype: str = "auto") -> None:
        super().__init__(model, device=device, dtype=dtype)
        ids = self._tokenizer.encode(STEP_END, add_special_tokens=False)
        if len(ids) != 1 or self._tokenizer.chat_template is None:
            raise CheckpointError(f"{model}: its tokenizer needs a chat template and the token {STEP_END}")
        self._step_end_id = ids[0]

    def _text(self, request: RewardRequest) -> ScoredText:
        """The chat of system prompt, problem and response, every step ended by the special token."""
        steps = [step.replace(STEP_END, "") for step in request.steps]
        chat = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": request.problem.replace(STEP_END, "")},
            {"role": "assistant", "content": "".join(step + STEP_END for step in steps)},
        ]
        rendered = self._tokenizer.apply_chat_template(chat, tokenize=False)
        tokens = list(self._tokenizer.encode(rendered, add_special_tokens=False))
        ends = (place for place, token in enumerate(tokens) if token == self._step_end_id)
        return ScoredText(tokens, tuple(ends))

    def _rewards(self, hidden: Tensor) -> Tensor:
        first_weight, first_bias, last_weight, last_bias = self._head
        inner = relu(linear(hidden, first_weight, first_bias))
        return linear(inner, last_weight, last_bias).softmax(-1)[:, 1]
