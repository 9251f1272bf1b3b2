"""From preference pairs and examples as text to the token ids that a policy is trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Generic, TypeVar

from hsstar.domain.errors import BadInputError
from hsstar.engines.loading import TokenIds, encode_prompts
from hsstar.engines.training.contract import TrainingExample, TrainingPair

IGNORED_LABEL = -100
"""The label of a token that the loss leaves out."""

_SHARES = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class TokenisedPair:
    """A preference pair as token ids; each response follows the prompt."""

    prompt_ids: TokenIds
    chosen_ids: TokenIds
    rejected_ids: TokenIds


@dataclass(frozen=True, slots=True)
class TokenisedExample:
    """An example for supervised fine-tuning; the labels of prompt tokens are ignored."""

    input_ids: TokenIds
    labels: TokenIds


Row = TypeVar("Row", TokenisedPair, TokenisedExample)


@dataclass(frozen=True, slots=True)
class TrainingData(Generic[Row]):
    """What is trained on.

    Attributes:
        rows: one per pair or example with room for a response token.
        truncated: how many of them were cut.
        left_out: pairs or examples whose prompt alone fills the limit: nothing to learn from.
        lengths: tokens of each part before any cut, by quantile; those that are left out count too.
    """

    rows: list[Row]
    truncated: int
    left_out: int
    lengths: dict[str, dict[str, int]]


def tokenise_pairs(
    pairs: Sequence[TrainingPair], tokenizer: Any, maximum_tokens: int
) -> TrainingData[TokenisedPair]:
    """Pairs as token ids, prompt and response together within `maximum_tokens`.

    Raises:
        BadInputError: no pair is left to train on.
    """
    prompts = encode_prompts(tokenizer, [pair.prompt for pair in pairs])
    chosen = encode_responses(tokenizer, prompts, [(pair.prompt, pair.chosen) for pair in pairs])
    rejected = encode_responses(tokenizer, prompts, [(pair.prompt, pair.rejected) for pair in pairs])
    rows, truncated = [], 0
    for prompt, better, worse in zip(prompts, chosen, rejected, strict=True):
        room = maximum_tokens - len(prompt)
        if room > 0:
            rows.append(TokenisedPair(prompt, better[:room], worse[:room]))
            truncated += max(len(better), len(worse)) > room
    lengths = _lengths(prompt=prompts, chosen=chosen, rejected=rejected)
    return _checked(TrainingData(rows, truncated, len(pairs) - len(rows), lengths), maximum_tokens)


def tokenise_examples(
    examples: Sequence[TrainingExample], tokenizer: Any, maximum_tokens: int
) -> TrainingData[TokenisedExample]:
    """Examples as token ids, prompt and response together within `maximum_tokens`.

    Raises:
        BadInputError: no example is left to train on.
    """
    prompts = encode_prompts(tokenizer, [example.prompt for example in examples])
    texts = [(example.prompt, example.response) for example in examples]
    responses = encode_responses(tokenizer, prompts, texts)
    rows, truncated = [], 0
    for prompt, response in zip(prompts, responses, strict=True):
        room = maximum_tokens - len(prompt)
        if room > 0:
            labels = [IGNORED_LABEL] * len(prompt) + response[:room]
            rows.append(TokenisedExample(prompt + response[:room], labels))
            truncated += len(response) > room
    lengths = _lengths(prompt=prompts, response=responses)
    return _checked(TrainingData(rows, truncated, len(examples) - len(rows), lengths), maximum_tokens)


def encode_responses(
    tokenizer: Any, prompts: Sequence[TokenIds], texts: Sequence[tuple[str, str]]
) -> list[TokenIds]:
    """The tokens of responses as they follow their prompts, ended by the end-of-text token.

    In sampling a response begins at a token border. Where prompt and response read together have no
    border there (a token merges across it), the response is tokenised by itself.

    Args:
        tokenizer: the policy's.
        prompts: token ids of the prompts, from `encode_prompts`.
        texts: for each of them the prompt and the response as text.
    """
    together = encode_prompts(tokenizer, [prompt + response for prompt, response in texts])
    responses = []
    for prompt, whole, (_, response) in zip(prompts, together, texts, strict=True):
        if whole[: len(prompt)] == prompt:
            tokens = whole[len(prompt) :]
        else:
            tokens = list(tokenizer(response, add_special_tokens=False)["input_ids"])
        responses.append([*tokens, tokenizer.eos_token_id])
    return responses


def _lengths(**parts: Sequence[TokenIds]) -> dict[str, dict[str, int]]:
    """Quantiles of the lengths of each part, in tokens."""
    return {part: _quantiles(sorted(map(len, texts))) for part, texts in parts.items() if texts}


def _quantiles(ordered: list[int]) -> dict[str, int]:
    """The named quantiles of sorted numbers: for each the smallest that so large a share does not exceed."""
    last = len(ordered) - 1
    return {name: ordered[min(last, max(0, ceil(share * len(ordered)) - 1))] for name, share in _SHARES}


def _checked(data: TrainingData[Row], maximum_tokens: int) -> TrainingData[Row]:
    if data.rows:
        return data
    if data.left_out:
        raise BadInputError(f"nothing to train on: every prompt fills the {maximum_tokens} tokens allowed")
    raise BadInputError("nothing to train on: there are no pairs or examples")
