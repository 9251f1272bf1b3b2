"""The decoding loop: draws a batch of completions token by token over a key-value cache."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hsstar.engines.loading import TokenIds
from hsstar.engines.sampling.hf_cache import growing_cache
from hsstar.engines.sampling.noise import gumbel_noise

STOP_CHECK_INTERVAL = 8
"""Tokens between two calls of `DrawSettings.stopped`; the caller cuts tokens after the stop string."""
COMPACTION_SHARE = 0.8
"""Finished rows leave the batch when at most this share of its rows is unfinished."""


@dataclass(frozen=True, slots=True)
class Row:
    """One completion to draw: the prompt's tokens, the seed, and the most new tokens."""

    prompt: TokenIds
    seed: int
    limit: int


@dataclass(frozen=True, slots=True)
class Draw:
    """The drawn tokens of a row with the end-of-text token, and each one's raw log-probability in nats."""

    tokens: TokenIds
    logprobs: list[float]
    ended: bool


@dataclass(frozen=True, slots=True)
class DrawSettings:
    """The settings of all rows of a batch; `stopped` tells of a row's tokens whether it may end here."""

    temperature: float
    top_p: float
    end_ids: tuple[int, ...]
    stopped: Callable[[TokenIds], bool] | None


def choose_tokens(logits: Tensor, seeds: Tensor, position: int, temperature: float, top_p: float) -> Tensor:
    """Return next tokens, (rows,), from float32 logits, (rows, vocabulary), and int64 seeds, (rows,).

    It is greedy at temperature 0, else drawn by Gumbel noise; `position` counts within the completion.
    """
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits / temperature
    if top_p < 1:
        scaled = _keep_nucleus(scaled, top_p)
    return (scaled + gumbel_noise(seeds, position, logits.shape[-1])).argmax(-1)


def _keep_nucleus(scaled: Tensor, top_p: float) -> Tensor:
    """Set logits outside the smallest set of most probable tokens with mass `top_p` to minus infinity."""
    probabilities = scaled.softmax(-1)
    ordered = probabilities.sort(-1, descending=True).values
    beyond = ordered.cumsum(-1) - ordered >= top_p
    beyond[:, 0] = False
    smallest = ordered.masked_fill(beyond, 1.0).amin(-1, keepdim=True)
    return scaled.masked_fill(probabilities < smallest, -torch.inf)


class _Batch:
    """The unfinished rows. Their tensors shrink as rows finish; the results keep a place for every row."""

    def __init__(self, model: Any, rows: Sequence[Row], settings: DrawSettings) -> None:
        device = model.device
        longest = max(len(row.prompt) for row in rows)
        self.most = max(row.limit for row in rows)
        self.model, self.settings = model, settings
        self.cache = growing_cache(model.config)
        self.ends = torch.tensor(settings.end_ids, device=device)
        padded = [[0] * (longest - len(row.prompt)) + row.prompt for row in rows]
        self.input = torch.tensor(padded, device=device)
        self.padding = torch.tensor([longest - len(row.prompt) for row in rows], device=device)
        self.attended = torch.arange(longest + self.most, device=device)[None] >= self.padding[:, None]
        self.seeds = torch.tensor([row.seed for row in rows], device=device)
        self.limits = torch.tensor([row.limit for row in rows], device=device)
        self.places = torch.arange(len(rows), device=device)
        self.finished = torch.zeros(len(rows), dtype=torch.bool, device=device)
        self.taken = torch.zeros_like(self.finished)
        self.unfinished = len(rows)
        self.tokens = torch.zeros((len(rows), self.most), dtype=torch.int64, device=device)
        self.logprobs = torch.zeros((len(rows), self.most), device=device)
        self.lengths = torch.zeros(len(rows), dtype=torch.int64, device=device)

    def forward(self) -> Tensor:
        seen = self.cache.get_seq_length()
        width = seen + self.input.shape[1]
        positions = torch.arange(seen, width, device=self.input.device)[None] - self.padding[:, None]
        output = self.model(
            input_ids=self.input,
            attention_mask=self.attended[:, :width].long(),
            position_ids=positions.clamp(min=0),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def record(self, tokens: Tensor, logits: Tensor, position: int) -> None:
        logprobs = logits.gather(-1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        self.tokens[self.places, position] = tokens
        self.logprobs[self.places, position] = logprobs
        self.lengths[self.places[~self.finished]] = position + 1
        self.finished |= torch.isin(tokens, self.ends) | (self.limits <= position + 1)
        if self.settings.stopped and (position + 1) % STOP_CHECK_INTERVAL == 0:
            self._mark_stopped(self.settings.stopped, position + 1)
        self.input = tokens[:, None]

    def _mark_stopped(self, stopped: Callable[[TokenIds], bool], length: int) -> None:
        for row in (~self.finished).nonzero()[:, 0].tolist():
            if stopped(self.tokens[self.places[row], :length].tolist()):
                self.finished[row] = True

    def take_finished(self) -> list[tuple[int, Draw]]:
        fresh = self.finished & ~self.taken
        places: list[int] = self.places[fresh].tolist()
        self.taken |= fresh
        self.unfinished -= len(places)
        return [(place, self._draw(place)) for place in places]

    def _draw(self, place: int) -> Draw:
        length = int(self.lengths[place])
        tokens = self.tokens[place, :length].tolist()
        return Draw(tokens, self.logprobs[place, :length].tolist(), ended=tokens[-1] in self.settings.end_ids)

    def compact(self) -> None:
        if self.unfinished <= COMPACTION_SHARE * len(self.finished):
            kept = self.finished.logical_not().nonzero()[:, 0]
            self.cache.batch_select_indices(kept)
            for name in ("input", "padding", "attended", "seeds", "limits", "places", "finished", "taken"):
                setattr(self, name, getattr(self, name)[kept])


@torch.inference_mode()
def draw_batch(model: Any, rows: Sequence[Row], settings: DrawSettings) -> Iterator[tuple[int, Draw]]:
    """Draw one completion per row (each has room for a token); yield its place and result when it ends."""
    batch = _Batch(model, rows, settings)
    for position in range(batch.most):
        logits = batch.forward()
        tokens = choose_tokens(logits, batch.seeds, position, settings.temperature, settings.top_p)
        batch.record(tokens, logits, position)
        yield from batch.take_finished()
        if not batch.unfinished:
            return
        batch.compact()
