"""The sampler on transformers beyond the contract suite: padding, batches, memory, and the noise.

Noise is a pure function of (seed, position, token), and it is Gumbel noise.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache, GPT2Config, GPT2LMHeadModel

from hsstar.checkpoints.resolve import resolve
from hsstar.demo.family import distinct_problems
from hsstar.domain.errors import EngineMemoryError
from hsstar.domain.steps import step_prefixes
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf import TransformersSampler
from hsstar.engines.sampling.hf_cache import growing_cache
from hsstar.engines.sampling.hf_decoding import choose_tokens
from hsstar.engines.sampling.noise import gumbel_noise
from tests.engines import tiny
from tests.engines.draws import DRAWN, all_same, complete, completion, draw_all, raw_logprob, requests, same

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_draws.json").read_text())
"""With other noise no stored run could be drawn again: these values never change."""
SEEDS = [0, 1, 2**62 + 11, 2**63 - 1]


def learned_positions(folder: Path) -> Path:
    """A GPT-2: its positions are absolute, so a padded prompt must begin at position 0 too."""
    tokenizer = tiny.qwen_tokenizer()
    sizes = {"n_positions": 256, "n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3}
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    configuration = GPT2Config(vocab_size=len(tokenizer), **sizes, **ends)
    return tiny.written(folder, tokenizer, lambda: GPT2LMHeadModel(configuration), 0)


sliding_window = partial(tiny.tiny_policy, use_sliding_window=True, sliding_window=7, max_window_layers=1)


@pytest.mark.parametrize("write", [learned_positions, sliding_window])
def test_padding_changes_no_position_and_no_text(write: Callable[[Path], Path], tmp_path: Path) -> None:
    policy = write(tmp_path)
    sampler = TransformersSampler(policy, device="cpu")
    for request, result in zip(requests(16), complete(sampler, 16), strict=True):
        assert same(draw_all(sampler, [request])[0], result)
        expected = raw_logprob(policy, request.prompt, result)
        assert result.cumulative_logprob == pytest.approx(expected, abs=1e-3)


def shapes(sampler: TransformersSampler, most_rows: int = 1_000) -> list[tuple[int, int]]:
    """Rows and width of every pass through the model from now on; more rows do not fit into memory."""
    seen: list[tuple[int, int]] = []

    def see(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        seen.append(tuple(given["input_ids"].shape))
        if len(given["input_ids"]) > most_rows:
            raise torch.OutOfMemoryError("no room")

    sampler._model.register_forward_pre_hook(see, with_kwargs=True)
    return seen


def test_prompts_of_equal_length_share_a_batch_and_finished_rows_leave_it(policy: Path) -> None:
    sampler = TransformersSampler(policy, device="cpu", batch_size=8)
    seen = shapes(sampler)
    complete(sampler, 20)
    widths = sorted(len(request.prompt) for request in requests(20))
    first = [(8, widths[7]), (8, widths[15]), (4, widths[19])]
    assert [(rows, width) for rows, width in seen if width > 1] == first
    for (before, _), (rows, width) in pairwise(seen):
        assert width > 1 or rows <= before
    assert min(rows for rows, _ in seen) < 4


@pytest.mark.parametrize("length", [1, 3, 30])
def test_a_row_with_a_stop_string_leaves_the_batch_within_eight_tokens(policy: Path, length: int) -> None:
    sampler = TransformersSampler(policy, device="cpu")
    drawn = zip(requests(40), complete(sampler, 40), strict=True)
    request, text = next((one, done.text) for one, done in drawn if done.tokens == DRAWN.max_new_tokens)
    stop = text[:length] if length == 30 else text[20 : 20 + length]
    seen = shapes(sampler)
    (held,) = draw_all(sampler, [request], replace(DRAWN, stop=(stop,)))
    assert not isinstance(held, str)
    assert held.tokens <= len(seen) < held.tokens + 8


def test_a_cache_grows_in_place_and_holds_what_the_usual_one_holds() -> None:
    config = tiny.qwen_configuration(tiny.qwen_tokenizer())
    grown, usual = growing_cache(config), DynamicCache(config=config)
    places = set()
    for width in (3, 1, 1, 200, 1, 1):
        states = torch.randn(2, 4, 1, width, 16)
        for layer in range(2):
            assert all(map(torch.equal, grown.update(*states, layer), usual.update(*states, layer)))
            places.add(grown.layers[layer].keys.data_ptr())
    assert len(places) == 4  # of two layers, each before and after it grew
    for cache in (grown, usual):
        cache.batch_select_indices(torch.tensor([2, 0]))
    assert torch.equal(grown.layers[1].values, usual.layers[1].values)
    assert grown.get_seq_length() == usual.get_seq_length() == 207


def test_a_batch_that_memory_does_not_hold_is_halved_for_the_next_attempt(policy: Path) -> None:
    expected = complete(TransformersSampler(policy, device="cpu"), 20)
    sampler = TransformersSampler(policy, device="cpu", batch_size=20)
    seen = shapes(sampler, most_rows=6)
    for _ in range(2):
        with pytest.raises(EngineMemoryError, match="no room"):
            draw_all(sampler, requests(20))
    assert all_same(draw_all(sampler, requests(20)), expected)
    assert [rows for rows, width in seen if width > 1] == [20, 10, 5, 5, 5, 5]


def test_the_noise_of_an_address_is_that_of_every_earlier_version() -> None:
    """Also where the uniform number rounds to one, for the seed 32."""
    for case in GOLDEN["noise"]:
        noise = gumbel_noise(torch.tensor([case["seed"]]), case["position"], 151_936)[0]
        drawn = [float(noise[int(token)]) for token in case["noise"]]
        assert drawn == pytest.approx([*case["noise"].values()], abs=2e-5)


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


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_choices_are_distributed_as_the_softmax(temperature: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(50) * 2
    chosen = choose_tokens(logits.expand(20_000, -1), torch.arange(20_000), 9, temperature, 1.0)
    expected = (logits / temperature).softmax(-1)
    difference = chosen.bincount(minlength=50) / 20_000 - expected
    assert (difference.abs() < 5 * (expected / 20_000).sqrt() + 1e-4).all()


NUCLEI = [(0.49, {1}), (0.51, {1, 3}), (0.74, {1, 3}), (0.76, {0, 1, 2, 3}), (1e-6, {1})]


@pytest.mark.parametrize(("top_p", "kept"), NUCLEI)
def test_a_nucleus_ends_with_the_token_that_completes_its_mass(top_p: float, kept: set[int]) -> None:
    logits = torch.tensor([0.125, 0.5, 0.125, 0.25]).log()  # two are as probable
    chosen = choose_tokens(logits.expand(2_000, -1), torch.arange(2_000), 0, 1.0, top_p)
    assert set(chosen.tolist()) == kept


def test_a_prefix_is_continued_as_the_policy_itself_went_on() -> None:
    """Greedily, so that the continuation of a prefix is the rest of the response that it is from."""
    sampler = TransformersSampler(resolve("builtin:demo-policy"), device="cpu")
    greedy = SamplingParameters(temperature=0.0, top_p=1.0, max_new_tokens=176)
    prompts = [f"{problem.question}\n" for problem in distinct_problems(6, 0, held_out=True)]
    whole = draw_all(sampler, [SampleRequest(prompt, 0) for prompt in prompts], greedy)
    responses = [completion(drawn).text for drawn in whole]
    begun = [
        (prompt, response, prefix)
        for prompt, response in zip(prompts, responses, strict=True)
        for prefix in step_prefixes(response)
    ]
    assert len(begun) > 6
    drawn = draw_all(sampler, [SampleRequest(prompt + prefix, 0) for prompt, _, prefix in begun], greedy)
    for (_, response, prefix), continuation in zip(begun, drawn, strict=True):
        assert prefix + completion(continuation).text == response
