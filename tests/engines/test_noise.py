"""Noise is a pure function of (seed, position, token), and it is Gumbel noise."""

import math

import pytest
import torch

from hsstar.engines.sampling.hf_decoding import choose_tokens
from hsstar.engines.sampling.noise import gumbel_noise


def chi_square_is_small(counts: torch.Tensor, probabilities: torch.Tensor) -> bool:
    """Whether counts are within five standard deviations of what the probabilities predict."""
    total = counts.sum()
    expected = probabilities * total
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]]).double()
    statistic = ((observed - expected) ** 2 / expected.clamp(min=1e-9)).sum()
    freedom = len(observed) - 1
    return bool(statistic < freedom + 5 * math.sqrt(2 * freedom))


def test_moments_are_those_of_the_gumbel_distribution() -> None:
    noise = gumbel_noise(torch.arange(2000), 3, 500).double()

    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.02)
    assert noise.isfinite().all()


def test_a_row_does_not_depend_on_the_other_rows() -> None:
    seeds = torch.tensor([7, 2**62 + 11, 0, 2**63 - 1])

    together = gumbel_noise(seeds, 5, 40)

    for row, seed in enumerate(seeds):
        assert torch.equal(gumbel_noise(seed[None], 5, 40)[0], together[row])


def test_seeds_positions_and_tokens_are_uncorrelated() -> None:
    seeds = torch.arange(1000)  # consecutive seeds are the hardest case
    here, next_position = gumbel_noise(seeds, 0, 200), gumbel_noise(seeds, 1, 200)

    def correlation(left: torch.Tensor, right: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([left.flatten(), right.flatten()]))[0, 1])

    assert abs(correlation(here, next_position)) < 0.01
    assert abs(correlation(here[1:], here[:-1])) < 0.01
    assert abs(correlation(here[:, 1:], here[:, :-1])) < 0.01
    assert abs(correlation(here[1:, :-1], next_position[:-1, 1:])) < 0.01


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_choices_are_distributed_as_the_softmax(temperature: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    chosen = choose_tokens(logits.expand(20_000, -1), torch.arange(20_000), 9, temperature, 1.0)

    assert chi_square_is_small(chosen.bincount(minlength=50), (logits / temperature).softmax(-1))


def test_the_nucleus_is_the_smallest_set_that_holds_the_mass() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2])
    chosen = choose_tokens(probabilities.log().expand(20_000, -1), torch.arange(20_000), 0, 1.0, 0.8)

    counts = chosen.bincount(minlength=5)

    assert counts[[0, 2]].sum() == 0
    assert chi_square_is_small(counts, torch.tensor([0.0, 0.4, 0.0, 0.25, 0.2]) / 0.85)


def test_a_tiny_nucleus_is_the_most_probable_token() -> None:
    logits = torch.randn(300, 40)

    assert torch.equal(choose_tokens(logits, torch.arange(300), 0, 1.0, 1e-6), logits.argmax(-1))


def test_temperature_zero_is_greedy() -> None:
    logits = torch.randn(30, 40)

    assert torch.equal(choose_tokens(logits, torch.arange(30), 0, 0.0, 0.5), logits.argmax(-1))
