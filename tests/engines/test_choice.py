"""The choice of a token: noise is a function of its address, and short cuts change nothing."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from hsstar.engines.sampling.choice import choose_tokens, penalised
from hsstar.engines.sampling.noise import gumbel_noise
from tests.engines.plain_choice import choose_plainly, peaked

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_draws.json").read_text())
"""With other noise no stored run could be drawn again: these values never change."""
SEEDS = [0, 1, 2**62 + 11, 2**63 - 1]
TEMPERATURES = [0.0, 0.5, 1.0, 1.7]
MASSES = [1e-6, 0.1, 0.5, 0.95, 0.999, 1 - 1e-7, 1.0]


def at(position: int, seeds: Tensor) -> Tensor:
    return torch.full_like(seeds, position)


def test_the_noise_of_an_address_is_that_of_every_earlier_version() -> None:
    """Also where the uniform number rounds to one, for the seed 32."""
    for case in GOLDEN["noise"]:
        tokens, seeds = torch.tensor([*map(int, case["noise"])]), torch.tensor([case["seed"]])
        noise = gumbel_noise(seeds, at(case["position"], seeds), tokens)
        assert noise[0].tolist() == pytest.approx([*case["noise"].values()], abs=2e-5)


@pytest.mark.parametrize("case", GOLDEN["choices"])
def test_tokens_are_chosen_as_by_every_earlier_version(case: dict[str, Any]) -> None:
    logits, settings = torch.linspace(0, 4, 1000).expand(4, -1), (case["temperature"], case["top_p"])
    seeds = torch.tensor(SEEDS)
    for position, tokens in enumerate(case["tokens"]):
        assert choose_tokens(logits, seeds, at(position, seeds), *settings).tolist() == tokens


def flat(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    return torch.randn(rows, vocabulary, generator=random) * 0.01


def tied(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """Few values, so that equally probable tokens stand at every edge."""
    return (torch.randn(rows, vocabulary, generator=random) * 2).round()


def equal(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    return torch.zeros(rows, vocabulary)


def impossible(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """Most tokens have the logit minus infinity."""
    logits = torch.randn(rows, vocabulary, generator=random) * 3
    return logits.masked_fill(torch.rand(rows, vocabulary, generator=random) < 0.9, -torch.inf)


def halved(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """As many equally probable tokens as are looked at first, or one more or less, have half of the mass."""
    logits = torch.full((rows, vocabulary), -torch.inf)
    for row, count in zip(logits, [127, 128, 129, 64] * rows, strict=False):
        likely = torch.randperm(vocabulary, generator=random)[: 2 * count]
        row[likely[:count]], row[likely[count:]] = 1.0, 1.0 - 1e-6
    return logits


def coarse(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    """Near a million float32 has steps of 1/16, so that logits with noise are often equal."""
    return peaked(rows, vocabulary, random) + 1e6


def broken(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    logits = peaked(rows, vocabulary, random)
    logits[::2, 7] = torch.nan
    logits[1::4, 9] = torch.inf
    return logits


@pytest.mark.parametrize("vocabulary", [11, 300, 520, 17_001])
@pytest.mark.parametrize("logits_of", [peaked, flat, tied, equal, impossible, halved, coarse, broken])
def test_short_cuts_choose_what_the_plain_way_chooses(logits_of: Any, vocabulary: int) -> None:
    random = torch.Generator().manual_seed(vocabulary)
    rows = 40 if vocabulary < 1_000 else 5
    logits = logits_of(rows, vocabulary, random)
    seeds = torch.randint(2**63 - 1, (rows,), generator=random)
    positions = torch.randint(2_000, (rows,), generator=random)
    for settings in product(TEMPERATURES, MASSES):
        arguments = logits, seeds, positions, *settings
        assert torch.equal(choose_tokens(*arguments), choose_plainly(*arguments)), settings


CUTS = list(product([0, 1, 7, 200], [0.0, 1e-6, 0.05, 0.5, 1.0]))


@pytest.mark.parametrize("vocabulary", [11, 520, 17_001])
@pytest.mark.parametrize("logits_of", [peaked, flat, tied, equal, impossible, halved])
def test_cuts_by_number_and_share_choose_what_the_plain_way_chooses(logits_of: Any, vocabulary: int) -> None:
    random = torch.Generator().manual_seed(vocabulary)
    rows = 40 if vocabulary < 1_000 else 5
    logits = logits_of(rows, vocabulary, random)
    seeds = torch.randint(2**63 - 1, (rows,), generator=random)
    for temperature, top_p, (top_k, min_p) in product([0.0, 0.7, 1.7], [0.3, 0.95, 1.0], CUTS):
        arguments = logits, seeds, at(5, seeds), temperature, top_p, top_k, min_p
        assert torch.equal(choose_tokens(*arguments), choose_plainly(*arguments)), arguments[3:]


@pytest.mark.parametrize("top_p", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 20])
@pytest.mark.parametrize("min_p", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("temperature", [0.6, 1.4])
def test_the_same_tokens_may_be_drawn_as_in_transformers(
    temperature: float, top_p: float, top_k: int, min_p: float
) -> None:
    random = torch.Generator().manual_seed(7)
    logits = torch.randn(60, 900, generator=random) * 3
    seeds = torch.randint(2**63 - 1, (60,), generator=random)
    processors = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    processors += [TopKLogitsWarper(top_k)] if top_k else []
    processors += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    processors += [MinPLogitsWarper(min_p)] if min_p else []
    allowed = processors(None, logits)
    expected = (allowed + gumbel_noise(seeds, at(3, seeds), torch.arange(900))).argmax(-1)
    assert torch.equal(choose_tokens(logits, seeds, at(3, seeds), temperature, top_p, top_k, min_p), expected)


@pytest.mark.parametrize("penalty", [0.5, 1.1, 2.0])
def test_repeated_tokens_are_penalised_as_in_transformers(penalty: float) -> None:
    random = torch.Generator().manual_seed(3)
    logits, tokens = torch.randn(30, 70, generator=random), torch.randint(70, (30, 25), generator=random)
    seen = torch.zeros(30, 70, dtype=torch.bool).scatter(1, tokens, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(tokens, logits.clone())
    assert torch.equal(penalised(logits, seen, penalty), expected)
    assert not torch.equal(expected, logits)


def test_short_cuts_choose_what_the_plain_way_chooses_at_the_size_of_real_vocabularies() -> None:
    random = torch.Generator().manual_seed(0)
    for vocabulary, logits_of in product((49_152, 151_936), (peaked, tied)):
        logits = logits_of(6, vocabulary, random)
        seeds = torch.arange(6) * 2**60 + vocabulary
        for settings in ((0.7, 0.95), (1.0, 1.0), (0.7, 0.95, 50, 0.01), (1.0, 1.0, 20_000)):
            arguments: Any = logits, seeds, at(3, seeds), *settings
            assert torch.equal(choose_tokens(*arguments), choose_plainly(*arguments))


def test_a_prefix_has_the_sums_of_the_whole_row() -> None:
    """PyTorch's sum in float32 on a CPU, which is the oracle's, has the bits of one in float64."""
    ordered = torch.randn(8, 151_936).mul(2).softmax(-1).sort(-1, descending=True).values
    sums = ordered.cumsum(-1)
    for width in (1, 127, 128, 4_096, 151_936):
        assert torch.equal(ordered[:, :width].cumsum(-1, dtype=torch.float64).float(), sums[:, :width])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_choices_are_distributed_as_the_softmax(temperature: float) -> None:
    torch.manual_seed(0)
    logits, seeds = torch.randn(50) * 2, torch.arange(20_000)
    chosen = choose_tokens(logits.expand(20_000, -1), seeds, at(9, seeds), temperature, 1.0)
    expected = (logits / temperature).softmax(-1)
    difference = chosen.bincount(minlength=50) / 20_000 - expected
    assert (difference.abs() < 5 * (expected / 20_000).sqrt() + 1e-4).all()


NUCLEI = [(0.49, {1}), (0.51, {1, 3}), (0.74, {1, 3}), (0.76, {0, 1, 2, 3}), (1e-6, {1})]


@pytest.mark.parametrize(("top_p", "kept"), NUCLEI)
def test_a_nucleus_ends_with_the_token_that_completes_its_mass(top_p: float, kept: set[int]) -> None:
    logits, seeds = torch.tensor([0.125, 0.5, 0.125, 0.25]).log(), torch.arange(2_000)  # two are as probable
    chosen = choose_tokens(logits.expand(2_000, -1), seeds, at(0, seeds), 1.0, top_p)
    assert set(chosen.tolist()) == kept
