"""Noise is a pure function of (seed, position, token), and it is Gumbel noise."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf_decoding import choose_tokens
from hsstar.engines.sampling.noise import gumbel_noise
from tests.engines.draws import draw_all, same

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_draws.json").read_text())
"""With other noise no stored run could be drawn again: these values never change."""
SEEDS = [0, 1, 2**62 + 11, 2**63 - 1]


def test_the_noise_of_an_address_is_that_of_every_earlier_version() -> None:
    for case in GOLDEN["noise"]:
        noise = gumbel_noise(torch.tensor([case["seed"]]), case["position"], 151_936)[0]
        drawn = [float(noise[int(token)]) for token in case["noise"]]
        assert drawn == pytest.approx([*case["noise"].values()], abs=2e-5)


def test_the_noise_is_finite_where_the_uniform_number_rounds_to_one() -> None:
    assert float(gumbel_noise(torch.tensor([32]), 0, 110_447)[0, -1]) == pytest.approx(-2.81154, abs=1e-5)


@pytest.mark.parametrize("case", GOLDEN["choices"])
def test_tokens_are_chosen_as_by_every_earlier_version(case: dict[str, Any]) -> None:
    logits, settings = torch.linspace(0, 4, 1000).expand(4, -1), (case["temperature"], case["top_p"])
    for position, tokens in enumerate(case["tokens"]):
        assert choose_tokens(logits, torch.tensor(SEEDS), position, *settings).tolist() == tokens


def test_the_shipped_policy_draws_the_texts_of_every_earlier_version() -> None:
    requests = [SampleRequest(draw["prompt"], draw["seed"]) for draw in GOLDEN["draws"]]
    sampler = build_sampler("builtin:demo-policy", device="cpu")
    results = draw_all(sampler, requests, SamplingParameters(1.5, 0.9, 60))
    for draw, result in zip(GOLDEN["draws"], results, strict=True):
        ended = draw["tokens"], draw["finish_reason"], draw["logprob"]
        assert same(result, Completion(draw["text"], *ended, milliseconds=0.0))


def is_drawn_from(chosen: torch.Tensor, probabilities: torch.Tensor) -> bool:
    """Whether counts are within five standard deviations of chi-square from what probabilities predict."""
    counts, expected = chosen.bincount(minlength=len(probabilities)), probabilities * len(chosen)
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]]).double()
    expected = torch.cat([expected[common], expected[~common].sum()[None]]).double()
    freedom = len(observed) - 1
    statistic = ((observed - expected) ** 2 / expected.clamp(min=1e-9)).sum()
    return bool(statistic < freedom + 5 * math.sqrt(2 * freedom))


def test_moments_are_those_of_the_gumbel_distribution() -> None:
    noise = gumbel_noise(torch.arange(2000), 3, 500).double()
    assert noise.mean().item() == pytest.approx(0.5772157, abs=0.01)
    assert noise.var().item() == pytest.approx(math.pi**2 / 6, abs=0.02)
    assert noise.isfinite().all()


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
    assert is_drawn_from(chosen, (logits / temperature).softmax(-1))


def test_the_nucleus_is_the_smallest_set_that_holds_the_mass() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.05, 0.25, 0.2])
    chosen = choose_tokens(probabilities.log().expand(20_000, -1), torch.arange(20_000), 0, 1.0, 0.8)
    assert set(chosen.tolist()) == {1, 3, 4}
    assert is_drawn_from(chosen, torch.tensor([0.0, 0.4, 0.0, 0.25, 0.2]) / 0.85)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1e-6), (0.0, 0.5), (0.0, 1.0), (1e-6, 1.0)])
def test_temperature_zero_and_a_tiny_nucleus_are_greedy(temperature: float, top_p: float) -> None:
    logits = torch.randn(300, 40)
    assert torch.equal(choose_tokens(logits, torch.arange(300), 0, temperature, top_p), logits.argmax(-1))


@pytest.mark.parametrize(("top_p", "kept"), [(0.49, 1), (0.51, 2), (0.74, 2), (0.76, 4), (1.0, 4)])
def test_a_nucleus_ends_with_the_token_that_completes_its_mass(top_p: float, kept: int) -> None:
    logits = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()  # the last two are as probable
    chosen = choose_tokens(logits.expand(2_000, -1), torch.arange(2_000), 0, 1.0, top_p)
    assert set(chosen.tolist()) == set(range(kept))
