"""From preference pairs and examples as text to the token ids that a policy is trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.engines.loading import TokenIds, encode_prompts
from hsstar.engines.training.contract import Objective, TrainingRow

IGNORED_LABEL = -100
"""The label of a token that the loss leaves out."""

RESPONSES: dict[Objective, tuple[str, ...]] = {"dpo": ("chosen", "rejected"), "sft": ("response",)}
"""The fields of a row that follow its prompt."""
_SHARES = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows by TRL's columns: `prompt_ids`, `chosen_ids`, `rejected_ids`, or `input_ids` and `labels`.

    Each row has room for a response token; `left_out` counts those whose prompt alone fills the limit.
    `lengths` are tokens of each part before any cut, by quantile, left-out rows included.
    """

    rows: list[dict[str, TokenIds]]
    truncated: int
    left_out: int
    lengths: dict[str, dict[str, int]]


def tokenise(
    objective: Objective, rows: Sequence[TrainingRow], tokenizer: Any, maximum_tokens: int
) -> TrainingData:
    """Return rows as token ids within `maximum_tokens`; raise BadInputError if no row can be trained on."""
    texts = [asdict(row) for row in rows]
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in texts])
    responses = {
        part: encode_responses(tokenizer, prompts, [(row["prompt"], row[part]) for row in texts])
        for part in RESPONSES[objective]
    }
    columns, truncated = [], 0
    for prompt, *parts in zip(prompts, *responses.values(), strict=True):
        room = maximum_tokens - len(prompt)
        if room > 0:
            columns.append(_columns(objective, prompt, [response[:room] for response in parts]))
            truncated += max(map(len, parts)) > room
    if not columns:
        raise BadInputError(
            f"nothing to train on: every prompt fills the {maximum_tokens} tokens allowed"
            if rows
            else "nothing to train on: there are no pairs or examples"
        )
    lengths = {part: _quantiles(map(len, ids)) for part, ids in {"prompt": prompts, **responses}.items()}
    return TrainingData(columns, truncated, len(rows) - len(columns), lengths)


def _columns(objective: Objective, prompt: TokenIds, responses: list[TokenIds]) -> dict[str, TokenIds]:
    if objective == "dpo":
        chosen, rejected = responses
        return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    (response,) = responses
    return {"input_ids": prompt + response, "labels": [IGNORED_LABEL] * len(prompt) + response}


def encode_responses(
    tokenizer: Any, prompts: Sequence[TokenIds], texts: Sequence[tuple[str, str]]
) -> list[TokenIds]:
    """Return the tokens of responses (`texts` are prompt and response), ended by the end-of-text token.

    In sampling a response begins at a token border. Where a token of the joined text spans this border, the
    response is tokenised alone.
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


def _quantiles(numbers: Iterable[int]) -> dict[str, int]:
    ordered = sorted(numbers)
    last = len(ordered) - 1
    return {name: ordered[min(last, max(0, ceil(share * len(ordered)) - 1))] for name, share in _SHARES}
