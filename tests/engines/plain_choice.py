"""The plain choice of a token: the oracle of `choose_tokens`, and what its speed is measured against."""

import torch
from torch import Tensor

from hsstar.engines.sampling.noise import gumbel_noise


def choose_plainly(
    logits: Tensor,
    seeds: Tensor,
    positions: Tensor,
    temperature: float,
    top_p: float,
    top_k: int = 0,
    min_p: float = 0.0,
) -> Tensor:
    """Sort the vocabulary, sum in float32, and take noise for every token."""
    if temperature == 0:
        return logits.argmax(-1)
    scaled = logits / temperature
    if top_k:
        last = scaled.sort(-1, descending=True).values[:, :top_k][:, -1:]
        scaled = scaled.masked_fill(scaled < last, -torch.inf)
    shares = scaled.softmax(-1)
    if top_p < 1:
        probabilities = scaled.softmax(-1)
        ordered = probabilities.sort(-1, descending=True).values
        beyond = ordered.cumsum(-1) - ordered >= top_p
        beyond[:, 0] = False
        smallest = ordered.masked_fill(beyond, 1.0).amin(-1, keepdim=True)
        scaled = scaled.masked_fill(probabilities < smallest, -torch.inf)
    scaled = scaled.masked_fill(shares < min_p * shares.amax(-1, keepdim=True), -torch.inf)
    return (scaled + gumbel_noise(seeds, positions, torch.arange(logits.shape[-1]))).argmax(-1)


def peaked(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """Power laws, as a language model's: their nuclei end within the first tokens that are looked at."""
    order = torch.stack([torch.randperm(vocabulary, generator=random) for _ in range(rows)])
    order[0] = torch.arange(vocabulary).flip(0)  # the last tokens first
    return -torch.linspace(1.2, 5, rows)[:, None] * (order + 1.0).log()
