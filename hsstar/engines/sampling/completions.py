"""Refuses prompts, finds stop strings and builds completions, for samplers on token ids."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from hsstar.engines.loading import TokenIds
from hsstar.engines.sampling.contract import Completion, FinishReason, SamplingParameters
from hsstar.engines.sampling.hf_decoding import STOP_CHECK_INTERVAL, Draw

_TOKENS_PER_CHARACTER = 4
"""Most tokens of a character (one per byte of UTF-8)."""


def refusal(prompt: TokenIds, context: int) -> str:
    """Return why a prompt has no completion; empty if it has one."""
    if not prompt:
        return "the prompt has no tokens"
    if len(prompt) >= context:
        return f"the prompt has {len(prompt)} tokens, which fills the model's context of {context}"
    return ""


def stop_check(tokenizer: Any, stop: tuple[str, ...]) -> Callable[[TokenIds], bool] | None:
    """Return a check for a stop string in a row's last tokens, to be run every `STOP_CHECK_INTERVAL`."""
    if not stop:
        return None
    window = STOP_CHECK_INTERVAL + _TOKENS_PER_CHARACTER * max(map(len, stop))
    return lambda tokens: first_stop(_text(tokenizer, tokens[-window:]), stop) is not None


def closing_of_thinking(
    tokenizer: Any, parameters: SamplingParameters
) -> Callable[[TokenIds], TokenIds] | None:
    """Return what gives the tokens that end the thinking of a row's tokens, none if it does not think."""
    thinking = parameters.thinking
    if thinking is None or not parameters.thinking_tokens:
        return None
    mark: TokenIds = tokenizer(thinking.closing, add_special_tokens=False)["input_ids"]

    def closing(tokens: TokenIds) -> TokenIds:
        said = tokenizer.decode(tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return list(mark) if thinking.is_open(said) else []

    return closing


def completion(tokenizer: Any, draw: Draw, stop: tuple[str, ...], milliseconds: float) -> Completion:
    """Build the completion of drawn tokens, cut before the first stop string."""
    tokens = draw.tokens[:-1] if draw.ended else draw.tokens
    text, count = _text(tokenizer, tokens), len(draw.tokens)
    reason: FinishReason = "stop" if draw.ended else "length"
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
    """Return where the first stop string begins in the text; None without one."""
    return min((place for string in stop if (place := text.find(string)) >= 0), default=None)


def end_of_text_ids(generation_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the token ids that end a completion: the generation config's and the tokenizer's."""
    configured = generation_config.eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return tuple(sorted({*ids, tokenizer.eos_token_id} - {None}))


def _text(tokenizer: Any, tokens: TokenIds) -> str:
    text: str = tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return text
