"""A sequence classifier as reward model: one reward for a whole response."""

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from hsstar.domain.errors import CheckpointError
from hsstar.domain.steps import STEP_SEPARATOR
from hsstar.engines.loading import (
    TokenIds,
    context_length,
    load_model,
    load_tokenizer,
    pick_device,
    pick_dtype,
)
from hsstar.engines.rewards.base import PackedRewardModel, ScoredText
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.tree_attention import require_flash_attention


class OutcomeRewardModel(PackedRewardModel):
    """Gives each response one number: its only step reward, and so its own minimum.

    With one label the reward is the sigmoid of its value, with two the softmax probability of class 1. The
    tokenizer decides how the model reads problem and response: as a chat with a chat template, as a pair of
    texts with a separator token (BERT), else on two lines.
    """

    name = f"outcome reward model on transformers {transformers.__version__}"

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
        if attention == "flash_attention_2":
            require_flash_attention()
        self._tokenizer = load_tokenizer(path)
        self._model = load_model(
            AutoModelForSequenceClassification,
            path,
            self._device,
            pick_dtype(dtype, self._device),
            **({} if attention == "auto" else {"attn_implementation": attention}),
        )
        if self._model.config.num_labels not in (1, 2):
            raise CheckpointError(
                f"{path}: {self._model.config.num_labels} labels; a reward model has 1 or 2"
            )
        # some architectures reserve positions; the tokenizer's limit excludes them
        self._context = min(context_length(self._model.config), self._tokenizer.model_max_length)
        self._config = self._model.config.get_text_config()
        self._config.use_cache = False
        self._padding_is_free = self._config.pad_token_id is None

    def _text(self, request: RewardRequest) -> ScoredText:
        def tokens_of(kept: int) -> int:
            return len(self._encode(request.problem, request.steps[:kept])["input_ids"])

        kept = len(request.steps)
        if kept and tokens_of(kept) > self._context:
            kept = max(0, bisect_right(range(kept), self._context, key=tokens_of) - 1)
        encoded = self._encode(request.problem, request.steps[:kept])
        tokens = encoded["input_ids"]
        return ScoredText(
            tokens,
            ends=(len(tokens) - 1,) if kept else (),
            truncated=kept < len(request.steps),
            segments=encoded.get("token_type_ids"),
        )

    def _encode(self, problem: str, steps: Sequence[str]) -> Any:
        response = STEP_SEPARATOR.join(steps)
        if self._tokenizer.chat_template is not None:
            chat = [{"role": "user", "content": problem}, {"role": "assistant", "content": response}]
            rendered = self._tokenizer.apply_chat_template(chat, tokenize=False)
            return self._tokenizer(rendered, add_special_tokens=False)
        if self._tokenizer.sep_token is not None:
            return self._tokenizer(problem, response)
        return self._tokenizer(f"{problem}\n{response}")

    @torch.inference_mode()
    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        inputs = {
            "input_ids": self._padded([text.tokens for text in texts], self._padding_token(texts)),
            "attention_mask": self._padded([[1] * len(text.tokens) for text in texts], 0),
        }
        if all(text.segments is not None for text in texts):
            inputs["token_type_ids"] = self._padded([text.segments or [] for text in texts], 0)
        logits: Tensor = self._model(**inputs).logits.float()
        rewards = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(-1)[:, 1]
        return [(reward,) for reward in rewards.tolist()]

    def _padded(self, rows: Sequence[TokenIds], padding: int) -> Tensor:
        width = max(map(len, rows))
        return torch.tensor([row + [padding] * (width - len(row)) for row in rows], device=self._device)

    def _padding_token(self, texts: Sequence[ScoredText]) -> int:
        """Return the padding token, or one that no text holds: decoders score the last other token."""
        if self._padding_is_free:
            used = {token for text in texts for token in text.tokens}
            self._config.pad_token_id = next(token for token in range(len(used) + 1) if token not in used)
        return int(self._config.pad_token_id)
