"""The choice of the next token from logits: repetition, temperature, cuts, and noise by address."""

import torch
from torch import Tensor

from hsstar.engines.sampling.noise import gumbel_noise

_PREFIX = 128
"""Most probable tokens of a row that are looked at first."""
_PREFIX_GROWTH = 32
"""How many times more are looked at where its nucleus does not end among them."""
_STRIDES = 16
"""Parts of a vocabulary whose tokens compete for the most probable ones."""
CHUNK = 2**19
"""Logits that a CPU looks at together, so that what is computed of them stays in its cache."""


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Return logits in which the tokens that were `seen`, (rows, vocabulary), are less likely.

    Positive ones are divided by the penalty, negative ones multiplied (Keskar et al. 2019).
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def choose_tokens(
    logits: Tensor,
    seeds: Tensor,
    positions: Tensor,
    temperature: float,
    top_p: float,
    top_k: int = 0,
    min_p: float = 0.0,
) -> Tensor:
    """Return next tokens, (rows,), from float32 logits, (rows, vocabulary).

    It is greedy at temperature 0, else drawn by Gumbel noise. `seeds` and `positions` are int64, (rows,);
    a position counts within its completion. Tokens as probable as the last of the `top_k` (0: all) stay too.
    """
    if temperature == 0:
        return logits.argmax(-1)
    rows = len(logits)
    if logits.device.type == "cpu":
        rows = max(1, CHUNK // logits.shape[-1])
    chunks = zip(*(torch.split(part, rows) for part in (logits, seeds, positions)), strict=True)
    return torch.cat([_choose(temperature, top_p, top_k, min_p, *chunk) for chunk in chunks])


def _choose(
    temperature: float,
    top_p: float,
    top_k: int,
    min_p: float,
    logits: Tensor,
    seeds: Tensor,
    positions: Tensor,
) -> Tensor:
    scaled = logits / temperature
    if 0 < top_k < scaled.shape[-1]:
        scaled.masked_fill_(scaled < _most_probable(scaled, top_k)[0][:, -1:], -torch.inf)
    if top_p >= 1 and not min_p:
        return _noisy_argmax(scaled, seeds, positions)
    probabilities = scaled.softmax(-1)
    if min_p:
        scaled.masked_fill_(probabilities < min_p * probabilities.amax(-1, keepdim=True), -torch.inf)
    if top_p >= 1:
        return _noisy_argmax(scaled, seeds, positions)
    return _choose_in_nucleus(top_p, _PREFIX, scaled, probabilities, seeds, positions)


def _choose_in_nucleus(
    top_p: float, prefix: int, scaled: Tensor, probabilities: Tensor, seeds: Tensor, positions: Tensor
) -> Tensor:
    """Choose within the smallest set of most probable tokens with mass `top_p`, and all as probable as one.

    Sorting a vocabulary, and noise for all of it, would take a quarter of a small model's step. A row whose
    nucleus ends within its `prefix` most probable tokens is decided by these, with the same result.
    """
    if 4 * prefix > scaled.shape[-1]:
        smallest = _smallest(probabilities.sort(-1, descending=True).values, top_p)
        return _noisy_argmax(scaled.masked_fill(probabilities < smallest, -torch.inf), seeds, positions)
    ordered, tokens = _most_probable(probabilities, prefix)
    smallest = _smallest(ordered, top_p)
    scores = scaled.gather(-1, tokens) + gumbel_noise(seeds, positions, tokens)
    scores.masked_fill_(ordered < smallest, -torch.inf)
    best = scores.amax(-1, keepdim=True)
    chosen = tokens.masked_fill(scores < best, scaled.shape[-1]).amin(-1)  # the first one, as argmax does
    undecided = ~(ordered[:, -1:] < smallest)[:, 0]
    if undecided.any():
        rows = (part[undecided] for part in (scaled, probabilities, seeds, positions))
        chosen[undecided] = _choose_in_nucleus(top_p, prefix * _PREFIX_GROWTH, *rows)
    return chosen


def least_in_nucleus(probabilities: Tensor, top_p: Tensor, prefix: int = _PREFIX) -> Tensor:
    """Return the smallest probability in the nucleus of each row, (rows, 1).

    `probabilities` are float32, (rows, vocabulary), and the masses `top_p` (rows, 1).
    """
    if 4 * prefix > probabilities.shape[-1]:
        return _smallest(probabilities.sort(-1, descending=True).values, top_p)
    ordered, _ = _most_probable(probabilities, prefix)
    smallest = _smallest(ordered, top_p)
    undecided = ~(ordered[:, -1:] < smallest)[:, 0]
    if undecided.any():
        rows = probabilities[undecided], top_p[undecided]
        smallest[undecided] = least_in_nucleus(*rows, prefix * _PREFIX_GROWTH)
    return smallest


def _most_probable(probabilities: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return what `topk` does, but for which of equally probable tokens come last; half the time of it.

    The tokens whose ids are congruent modulo `stride` make a group, and the most probable tokens are in the
    groups with the most probable maxima.
    """
    stride = probabilities.shape[-1] // _STRIDES
    if stride < count:
        return probabilities.topk(count)
    grouped = probabilities[:, : stride * _STRIDES].view(-1, _STRIDES, stride)
    groups = grouped.amax(1).topk(count, sorted=False).indices
    offsets = torch.arange(0, stride * _STRIDES, stride, device=groups.device)
    rest = torch.arange(stride * _STRIDES, probabilities.shape[-1], device=groups.device)
    candidates = (groups[:, None] + offsets[:, None]).flatten(1)
    candidates = torch.cat([candidates, rest.expand(len(groups), -1)], -1)
    ordered, places = probabilities.gather(-1, candidates).topk(count)
    return ordered, candidates.gather(-1, places)


def _smallest(ordered: Tensor, top_p: float | Tensor) -> Tensor:
    """Return the smallest probability of the nucleus, (rows, 1), from descending ones, (rows, tokens).

    Summed in float64, the first tokens have the sums that they have in the whole row, on every device. The
    rounded mass before a token never decreases. So the nucleus ends among the first tokens if its smallest
    probability is above their last one.
    """
    beyond = ordered.cumsum(-1, dtype=torch.float64).float() - ordered >= top_p
    beyond[:, 0] = False
    return ordered.masked_fill(beyond, 1.0).amin(-1, keepdim=True)


def _noisy_argmax(scaled: Tensor, seeds: Tensor, positions: Tensor) -> Tensor:
    tokens = torch.arange(scaled.shape[-1], device=scaled.device)
    return (scaled + gumbel_noise(seeds, positions, tokens)).argmax(-1)
