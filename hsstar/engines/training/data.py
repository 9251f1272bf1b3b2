"""From pairs, examples and steps as text to the token ids that a model is trained on."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from hsstar.domain.errors import BadInputError
from hsstar.domain.seeds import shuffle_key
from hsstar.engines.loading import TokenIds, encode_prompts
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.skywork import SkyworkRenderer
from hsstar.engines.training.contract import Objective, TrainingRow, TrainingSteps

IGNORED_LABEL = -100
"""The label of a token that the loss leaves out."""

RESPONSES: dict[Objective, dict[str, str]] = {
    "dpo": {"chosen": "chosen_cut", "rejected": "rejected_cut"},
    "kto": {"response": "cut"},
    "sft": {"response": "cut"},
}
"""The fields of a row that follow its prompt, each with that which tells whether it was cut."""
_ENOUGH = 64
"""Tokens in front that show of nearly every response that it is not blank."""
_SHARES = (("min", 0.0), ("median", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0))


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Rows by TRL's columns: `prompt_ids` with `chosen_ids` and `rejected_ids`, or with `completion_ids` and
    `label`; else `input_ids` and `labels`.

    `left_out` counts by reason the rows that teach nothing: without room for a response token or a labelled
    step, with an empty part, or with equal responses. `lengths` are tokens of each part before any cut, by
    quantile, left-out rows included.
    """

    rows: list[dict[str, Any]]
    truncated: int
    left_out: dict[str, int]
    lengths: dict[str, dict[str, int]]


def tokenise(
    objective: Objective,
    rows: Sequence[TrainingRow],
    tokenizer: Any,
    maximum_tokens: int,
    end_ids: Sequence[int] = (),
) -> TrainingData:
    """Return rows as token ids within `maximum_tokens`; raise BadInputError if no row can be trained on.

    `end_ids` are tokens that end a response, beside the tokenizer's own end-of-text token.
    """
    if objective == "prm":
        return _tokenise_steps(
            [row for row in rows if isinstance(row, TrainingSteps)], tokenizer, maximum_tokens
        )
    texts = [asdict(row) for row in rows]
    prompts = encode_prompts(tokenizer, [row["prompt"] for row in texts])
    encoder = ResponseEncoder(tokenizer, end_ids)
    responses = {
        part: encoder.encode(prompts, [(row["prompt"], row[part], row[cut]) for row in texts])
        for part, cut in RESPONSES[objective].items()
    }
    columns: list[dict[str, Any]] = []
    left_out: Counter[str] = Counter()
    truncated = 0
    for text, prompt, *parts in zip(texts, prompts, *responses.values(), strict=True):
        room = maximum_tokens - len(prompt)
        seen = [response[: max(room, 0)] for response in parts]
        if reason := encoder.obstacle(text["prompt"], seen, room):
            left_out[reason] += 1
            continue
        columns.append(_columns(text, prompt, seen))
        truncated += max(map(len, parts)) > room
    if not columns:
        raise _nothing(rows, left_out)
    lengths = {part: _quantiles(map(len, ids)) for part, ids in {"prompt": prompts, **responses}.items()}
    return TrainingData(columns, truncated, dict(left_out), lengths)


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
    left_out = {"no labelled step within the limit": len(rows) - len(columns)}
    if not columns:
        raise _nothing(rows, left_out)
    lengths = {"response": _quantiles(len(text.tokens) for text in texts)}
    return TrainingData(columns, truncated, left_out if len(rows) > len(columns) else {}, lengths)


def _nothing(rows: Sequence[TrainingRow], left_out: Mapping[str, int]) -> BadInputError:
    reasons = ", ".join(f"{count} × {reason}" for reason, count in left_out.items())
    return BadInputError(f"nothing to train on: {reasons if rows else 'there are no rows'}")


def _columns(row: Mapping[str, Any], prompt: TokenIds, responses: list[TokenIds]) -> dict[str, Any]:
    if len(responses) == 2:
        chosen, rejected = responses
        return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}
    (response,) = responses
    if "desirable" in row:
        return {"prompt_ids": prompt, "completion_ids": response, "label": row["desirable"]}
    return {"input_ids": prompt + response, "labels": [IGNORED_LABEL] * len(prompt) + response}


def mismatched(
    rows: Sequence[Mapping[str, Any]], pass_size: int, maximum_tokens: int, seed: int
) -> list[dict[str, Any]]:
    """Return KTO's rows in a seeded order, each with the response to the row before in its pass.

    From these `KL_completion_ids` KTO estimates how far the policy has moved. TRL reads the rows in this
    order, in every epoch; `pass_size` of them pass through the model at once in a process.
    """
    shuffled = sorted(enumerate(rows), key=lambda row: shuffle_key(seed, "kto", row[0]))
    found: list[dict[str, Any]] = []
    for start in range(0, len(shuffled), pass_size):
        together = [row for _, row in shuffled[start : start + pass_size]]
        for row, before in zip(together, [together[-1], *together[:-1]], strict=True):
            room = maximum_tokens - len(row["prompt_ids"])
            found.append({**row, "KL_completion_ids": before["completion_ids"][:room]})
    return found


class ResponseEncoder:
    """Turns responses into the tokens that a policy learns to generate."""

    def __init__(self, tokenizer: Any, end_ids: Sequence[int] = ()) -> None:
        self._tokenizer = tokenizer
        self._end: int = tokenizer.eos_token_id
        self._ends = {*end_ids, self._end}

    def encode(self, prompts: Sequence[TokenIds], texts: Sequence[tuple[str, str, bool]]) -> list[TokenIds]:
        """Return the tokens of responses; `texts` are prompt, response, and whether it was cut.

        A response goes as far as its first end-of-text token. One such token ends it, unless it was cut at
        its token limit. In sampling a response begins at a token border: where a token of the joined text
        spans this border, the response is tokenised alone.
        """
        together = encode_prompts(self._tokenizer, [prompt + response for prompt, response, _ in texts])
        responses = []
        for prompt, whole, (_, response, cut) in zip(prompts, together, texts, strict=True):
            if whole[: len(prompt)] == prompt:
                tokens = whole[len(prompt) :]
            else:
                tokens = list(self._tokenizer(response, add_special_tokens=False)["input_ids"])
            responses.append(self._body(tokens) + ([] if cut else [self._end]))
        return responses

    def obstacle(self, prompt: str, responses: Sequence[TokenIds], room: int) -> str | None:
        """Tell why a row teaches nothing; `responses` are its tokens within the room, with their ends."""
        if not prompt.strip():
            return "empty prompt"
        if room <= 0:
            return "prompt fills the limit"
        bodies = [self._body(response) for response in responses]
        if any(map(self._is_blank, bodies)):
            return "empty response"
        if len(bodies) > 1 and bodies[0] == bodies[1]:
            return "equal responses"
        return None

    def _is_blank(self, body: TokenIds) -> bool:
        decode = self._tokenizer.decode
        return not (decode(body[:_ENOUGH]).strip() or decode(body).strip())

    def _body(self, tokens: TokenIds) -> TokenIds:
        """Leave out the beginning-of-text tokens in front, and what begins with an end-of-text token."""
        first = 0
        while first < len(tokens) and tokens[first] == self._tokenizer.bos_token_id:
            first += 1
        end = next((place for place in range(first, len(tokens)) if tokens[place] in self._ends), None)
        return tokens[first:end]


def _quantiles(numbers: Iterable[int]) -> dict[str, int]:
    ordered = sorted(numbers)
    last = len(ordered) - 1
    return {name: ordered[min(last, max(0, ceil(share * len(ordered)) - 1))] for name, share in _SHARES}
