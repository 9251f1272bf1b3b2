"""Sampler on transformers: any causal language model, on a CPU or one GPU."""

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import transformers

from hsstar.engines.contracts import Completion, FinishReason, SampleRequest, SamplingParameters
from hsstar.engines.decoding import STOP_CHECK_INTERVAL, Draw, DrawSettings, Row, draw_batch
from hsstar.engines.loading import (
    TokenIds,
    context_length,
    encode_prompts,
    free_memory,
    load_policy,
    load_tokenizer,
    pick_device,
    pick_dtype,
)

_TOKENS_PER_CHARACTER = 4
"""A character takes at most this many tokens (one per byte of UTF-8)."""


class TransformersSampler:
    """Draws completions with an own decoding loop, every row from its own seed.

    The noise of a token is a function of (seed, position, token id), and rows never exchange
    anything, so a completion is the same in every batch up to the rounding of the forward pass.
    """

    name = f"transformers {transformers.__version__}"

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 256
    ) -> None:
        path = Path(model)
        self._device = pick_device(device)
        self._tokenizer = load_tokenizer(path)
        self._model = load_policy(path, self._device, pick_dtype(dtype, self._device))
        self._batch_size = batch_size
        self._context = context_length(self._model.config)
        self._end_ids = end_of_text_ids(self._model.generation_config, self._tokenizer)

    def sample(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> list[Completion | str]:
        """One completion per request, in order, or the reason why its prompt has none."""
        prompts = encode_prompts(self._tokenizer, [request.prompt for request in requests])
        results: list[Completion | str] = [self._refusal(prompt) for prompt in prompts]
        rows = {
            index: Row(prompt, request.seed, min(parameters.max_new_tokens, self._context - len(prompt)))
            for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True))
            if not results[index]
        }
        by_length = sorted(rows, key=lambda index: (len(rows[index].prompt), index))
        settings = self._draw_settings(parameters)
        for start in range(0, len(by_length), self._batch_size):
            batch = by_length[start : start + self._batch_size]
            draws = draw_batch(self._model, [rows[index] for index in batch], settings)
            for index, draw in zip(batch, draws, strict=True):
                results[index] = self._completion(draw, parameters.stop)
        return results

    def close(self) -> None:
        """Frees the model's memory."""
        self._model = None
        free_memory(self._device)

    def _refusal(self, prompt: TokenIds) -> str:
        """Why nothing can be drawn for a prompt; empty where something can."""
        if not prompt:
            return "the prompt has no tokens"
        if len(prompt) >= self._context:
            return f"the prompt has {len(prompt)} tokens, which fills the model's context of {self._context}"
        return ""

    def _draw_settings(self, parameters: SamplingParameters) -> DrawSettings:
        stop = parameters.stop
        window = STOP_CHECK_INTERVAL + _TOKENS_PER_CHARACTER * max(map(len, stop), default=0)

        def stopped(tokens: TokenIds) -> bool:
            return first_stop(self._text(tokens[-window:]), stop) is not None

        return DrawSettings(
            parameters.temperature, parameters.top_p, self._end_ids, stopped if stop else None
        )

    def _text(self, tokens: TokenIds) -> str:
        text: str = self._tokenizer.decode(
            tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return text

    def _completion(self, draw: Draw, stop: tuple[str, ...]) -> Completion:
        tokens = draw.tokens[:-1] if draw.ended else draw.tokens
        text, count, reason = self._text(tokens), len(draw.tokens), _reason(draw.ended)
        place = first_stop(text, stop)
        if place is not None:
            count = 1 + bisect_left(
                range(1, len(tokens)),
                True,
                key=lambda length: first_stop(self._text(tokens[:length]), stop) is not None,
            )
            text, reason = text[:place], "stop"
        return Completion(text, count, reason, sum(draw.logprobs[:count]))


def _reason(ended: bool) -> FinishReason:
    return "stop" if ended else "length"


def first_stop(text: str, stop: Sequence[str]) -> int | None:
    """Where the first of the stop strings begins in the text; None where there is none."""
    return min((place for string in stop if (place := text.find(string)) >= 0), default=None)


def end_of_text_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """The token ids that end a completion: those of the generation config and the tokenizer's own."""
    configured = generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return tuple(
        sorted({identifier for identifier in [*ids, tokenizer.eos_token_id] if identifier is not None})
    )
