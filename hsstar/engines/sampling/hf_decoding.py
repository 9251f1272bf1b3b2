"""The decoding of a batch: draws completions token by token over a key-value cache."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from hsstar.domain.answers.thinking import Thinking
from hsstar.domain.errors import EngineError
from hsstar.engines.loading import TokenIds, context_length
from hsstar.engines.sampling.choice import choose_tokens, penalised
from hsstar.engines.sampling.hf_cache import growing_cache, takes_rows

STOP_CHECK_INTERVAL = 8
"""Tokens between two calls of `DrawSettings.stopped`; the caller cuts tokens after the stop string."""
_ROW_TENSORS = ("_input", "_padding", "_seeds", "_drawn", "_seen")
"""What a batch has of each row, beside the cache."""


@dataclass(slots=True)
class Draw:
    """The drawn tokens of a row with the end-of-text token, and each one's raw log-probability in nats."""

    tokens: TokenIds = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    ended: bool = False


@dataclass(slots=True, eq=False)
class Row:
    """One completion to draw: the prompt's tokens, the seed, the most new tokens, and what is drawn.

    The tokens of `put` come next, instead of drawn ones.
    """

    prompt: TokenIds
    seed: int
    limit: int
    draw: Draw = field(default_factory=Draw)
    finished: bool = False
    put: TokenIds = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """The settings of all rows of a batch; `stopped` tells of a row's tokens whether it may end here.

    `closing` returns of the tokens of a row that has `thinking_tokens` what ends its thinking.
    """

    temperature: float
    top_p: float
    stop: tuple[str, ...]
    end_ids: tuple[int, ...]
    stopped: Callable[[TokenIds], bool] | None = field(compare=False)
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    thinking: Thinking | None = None
    thinking_tokens: int = 0
    closing: Callable[[TokenIds], TokenIds] | None = field(default=None, compare=False)


class Batch:
    """Rows that are decoded together. Finished ones stay until others take their places, or `compact`.

    The rows end with the same column of the cache. A row begins behind its padding.
    """

    def __init__(self, model: Any, rows: Sequence[Row], settings: DrawSettings) -> None:
        device = model.device
        longest = max(len(row.prompt) for row in rows)
        self.rows, self.settings = list(rows), settings
        self._model, self._last_position = model, context_length(model.config) - 1
        self._cache = growing_cache(model.config)
        self.takes_rows = takes_rows(self._cache)
        padded = [[0] * (longest - len(row.prompt)) + row.prompt for row in rows]
        self._input = torch.tensor(padded, device=device)
        self._padding = torch.tensor([longest - len(row.prompt) for row in rows], device=device)
        self._seeds = torch.tensor([row.seed for row in rows], device=device)
        self._drawn = torch.zeros_like(self._seeds)
        # the tokens of prompt and completion, (rows, vocabulary); no column where nothing asks for them
        self._seen = torch.zeros((len(rows), 0), dtype=torch.bool, device=device)

    @property
    def unfinished(self) -> list[int]:
        """The places of the unfinished rows."""
        return [place for place, row in enumerate(self.rows) if not row.finished]

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Draw the next token of every row; return the rows that it finishes."""
        logits = self._forward()
        tokens = self._choose(logits)
        logprobs = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        for place, row in enumerate(self.rows):
            if row.put and not row.finished:
                tokens[place], logprobs[place] = row.put.pop(0), 0.0
        if self._seen.shape[1]:
            self._seen.scatter_(1, tokens[:, None], True)
        self._input = tokens[:, None]
        self._drawn += 1
        return self._record(tokens.tolist(), logprobs.tolist())

    def _choose(self, logits: Tensor) -> Tensor:
        settings = self.settings
        cuts = settings.temperature, settings.top_p, settings.top_k, settings.min_p
        if settings.repetition_penalty == 1:
            return choose_tokens(logits, self._seeds, self._drawn, *cuts)
        if not self._seen.shape[1]:
            self._seen = torch.zeros_like(logits, dtype=torch.bool)
            for seen, row in zip(self._seen, self.rows, strict=True):
                seen[row.prompt] = True
        likely = penalised(logits, self._seen, settings.repetition_penalty)
        return choose_tokens(likely, self._seeds, self._drawn, *cuts)

    def _forward(self) -> Tensor:
        seen = self._cache.get_seq_length()
        columns = torch.arange(seen + self._input.shape[1], device=self._input.device)[None]
        positions = columns[:, seen:] - self._padding[:, None]
        output = self._model(
            input_ids=self._input,
            attention_mask=(columns >= self._padding[:, None]).long(),
            position_ids=positions.clamp(min=0, max=self._last_position),  # finished rows run over it
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _record(self, tokens: TokenIds, logprobs: list[float]) -> list[Row]:
        end_ids, stopped = self.settings.end_ids, self.settings.stopped
        finished = []
        for row, token, logprob in zip(self.rows, tokens, logprobs, strict=True):
            if row.finished:
                continue
            if not isfinite(logprob):  # no later token would be one of the policy's
                raise EngineError(
                    f"the policy gave a token the log-probability {logprob}; are its weights whole?"
                )
            drawn = row.draw.tokens
            drawn.append(token)
            row.draw.logprobs.append(logprob)
            row.draw.ended = token in end_ids
            if self.settings.closing and len(drawn) == self.settings.thinking_tokens:
                row.put = self.settings.closing(drawn)
            check = stopped if len(drawn) % STOP_CHECK_INTERVAL == 0 else None
            if row.draw.ended or len(drawn) >= row.limit or (check and check(drawn)):
                row.finished = True
                finished.append(row)
        return finished

    @torch.inference_mode()
    def join(self, other: "Batch") -> None:
        """Take over the unfinished rows of another batch, in the places of finished rows and behind them.

        Both batches take rows, have the same settings, and have read their prompts.
        """
        chosen = other.unfinished
        if not chosen:
            return
        free = [place for place, row in enumerate(self.rows) if row.finished][: len(chosen)]
        behind = len(chosen) - len(free)
        self.rows += [other.rows[place] for place in chosen[len(free) :]]
        places = [*free, *range(len(self.rows) - behind, len(self.rows))]
        width, other_width = self._cache.get_seq_length(), other._cache.get_seq_length()
        self._padding += max(0, other_width - width)
        other._padding += max(0, width - other_width)
        taken = torch.tensor(chosen, device=self._input.device)
        at = torch.tensor(places, device=self._input.device)
        for name in _ROW_TENSORS:
            own, new = getattr(self, name), getattr(other, name)[taken]
            own = torch.cat([own, new[len(free) :]])
            own[at] = new
            setattr(self, name, own)
        for place, number in zip(places, chosen, strict=True):
            self.rows[place] = other.rows[number]
        for layer, new_layer in zip(self._cache.layers, other._cache.layers, strict=True):
            layer.put(at, len(self.rows), new_layer, taken)
        self._cut()

    @torch.inference_mode()
    def compact(self) -> None:
        """Forget the finished rows."""
        unfinished = self.unfinished
        kept = torch.tensor(unfinished, device=self._input.device)
        self._cache.batch_select_indices(kept)
        for name in _ROW_TENSORS:
            setattr(self, name, getattr(self, name)[kept])
        self.rows = [self.rows[place] for place in unfinished]
        if self.takes_rows:
            self._cut()

    def _cut(self) -> None:
        """Forget the columns that are padding in all unfinished rows."""
        columns = int(self._padding[self.unfinished].min())
        if columns:
            for layer in self._cache.layers:
                layer.cut(columns)
            self._padding = (self._padding - columns).clamp(min=0)
