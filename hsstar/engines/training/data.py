"""From pairs, examples and steps as text to the token ids that a model is trained on."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.engines.loading import TokenIds, encode_prompts
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.skywork import SkyworkRenderer
from hsstar.engines.training.contract import Objective, TrainingRow, TrainingSteps

IGNORED_LABEL = -100
"""The label of a token that the loss leaves out."""

RESPONSES: dict[Objective, tuple[str, ...]] = {"dpo": ("chosen", "rejected"), "sft": ("response",)}
"""The fields of a row that follow its prompt."""
_SHARES = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows by TRL's columns: `prompt_ids`, `chosen_ids`, `rejected_ids`, or `input_ids` and `labels`.

    Each row has room for a response token, or a labelled step; `left_out` counts those that have not.
    `lengths` are tokens of each part before any cut, by quantile, left-out rows included.
    """

    rows: list[dict[str, list[Any]]]
    truncated: int
    left_out: int
    lengths: dict[str, dict[str, int]]


def tokenise(
    objective: Objective, rows: Sequence[TrainingRow], tokenizer: Any, maximum_tokens: int
) -> TrainingData:
    """Return rows as token ids within `maximum_tokens`; raise BadInputError if no row can be trained on."""
    if objective == "prm":
        return _tokenise_steps(
            [row for row in rows if isinstance(row, TrainingSteps)], tokenizer, maximum_tokens
        )
    texts = [asdict(row) for row in rows]
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in texts])
    responses = {
        part: encode_responses(tokenizer, prompts, [(row["prompt"], row[part]) for row in texts])
        for part in RESPONSES[objective]
    }
    columns: list[dict[str, list[Any]]] = []
    truncated = 0
    for prompt, *parts in zip(prompts, *responses.values(), strict=True):
        room = maximum_tokens - len(prompt)
        if room > 0:
            columns.append(_columns(objective, prompt, [response[:room] for response in parts]))
            truncated += max(map(len, parts)) > room
    if not columns:
        raise _nothing(rows, f"every prompt fills the {maximum_tokens} tokens allowed")
    lengths = {part: _quantiles(map(len, ids)) for part, ids in {"prompt": prompts, **responses}.items()}
    return TrainingData(columns, truncated, len(rows) - len(columns), lengths)


def _tokenise_steps(rows: Sequence[TrainingSteps], tokenizer: Any, maximum_tokens: int) -> TrainingData:
    """Return responses as the reward model reads them, cut at a step, with labels at the ends of steps."""
    renderer = SkyworkRenderer(tokenizer)
    texts = [renderer.render(RewardRequest(row.problem, row.steps)) for row in rows]
    columns: list[dict[str, list[Any]]] = []
    truncated = 0
    for row, text in zip(rows, (text.within(maximum_tokens) for text in texts), strict=True):
        labels: list[float] = [IGNORED_LABEL] * len(text.tokens)
        for end, label in zip(text.ends, row.labels, strict=False):  # a cut text has fewer ends
            labels[end] = IGNORED_LABEL if label is None else label
        if any(label != IGNORED_LABEL for label in labels):
            columns.append({"input_ids": text.tokens, "labels": labels})
            truncated += text.truncated
    if not columns:
        raise _nothing(rows, f"no labelled step ends within the {maximum_tokens} tokens allowed")
    lengths = {"response": _quantiles(len(text.tokens) for text in texts)}
    return TrainingData(columns, truncated, len(rows) - len(columns), lengths)


def _nothing(rows: Sequence[TrainingRow], reason: str) -> BadInputError:
    return BadInputError(f"nothing to train on: {reason if rows else 'there are no rows'}")


def _columns(objective: Objective, prompt: TokenIds, responses: list[TokenIds]) -> dict[str, list[Any]]:
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
