"""What samplers on token ids do alike: refuse prompts, find stop strings, make completions of tokens."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from hsstar.engines.loading import TokenIds
from hsstar.engines.sampling.contract import Completion, FinishReason
from hsstar.engines.sampling.hf_decoding import STOP_CHECK_INTERVAL, Draw

_TOKENS_PER_CHARACTER = 4
"""A character takes at most this many tokens (one per byte of UTF-8)."""


def refusal(prompt: TokenIds, context: int) -> str:
    """Why nothing can be drawn for a prompt; empty where something can."""
    if not prompt:
        return "the prompt has no tokens"
    if len(prompt) >= context:
        return f"the prompt has {len(prompt)} tokens, which fills the model's context of {context}"
    return ""


def stop_check(tokenizer: Any, stop: tuple[str, ...]) -> Callable[[TokenIds], bool] | None:
    """Says of the tokens of a row whether their end holds a stop string; None where there is none to find.

    It has to be asked every `STOP_CHECK_INTERVAL` tokens at least.
    """
    if not stop:
        return None
    window = STOP_CHECK_INTERVAL + _TOKENS_PER_CHARACTER * max(map(len, stop))
    return lambda tokens: first_stop(_text(tokenizer, tokens[-window:]), stop) is not None


def completion(tokenizer: Any, draw: Draw, stop: tuple[str, ...], milliseconds: float) -> Completion:
    """The completion of drawn tokens, cut before the first stop string."""
    tokens = draw.tokens[:-1] if draw.ended else draw.tokens
    text, count, reason = _text(tokenizer, tokens), len(draw.tokens), _reason(draw.ended)
    place = first_stop(text, stop)
    if place is not None:
        count = 1 + bisect_left(
            range(1, len(tokens)),
            True,
            key=lambda length: first_stop(_text(tokenizer, tokens[:length]), stop) is not None,
        )
        text, reason = text[:place], "stop"
    return Completion(text, count, reason, sum(draw.logprobs[:count]), milliseconds)


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


def _text(tokenizer: Any, tokens: TokenIds) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text


def _reason(ended: bool) -> FinishReason:
    return "stop" if ended else "length"
