"""The sampler on transformers beyond the contract suite: padding, the shared batch, memory."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
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
from hsstar.engines.sampling.hf import REFILL_SHARE, TransformersSampler
from hsstar.engines.sampling.hf_cache import growing_cache
from hsstar.engines.sampling.hf_decoding import Batch
from tests.engines import tiny
from tests.engines.draws import (
    DRAWN,
    GREEDY,
    all_same,
    complete,
    completion,
    draw_all,
    raw_logprob,
    requests,
    same,
)

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden_draws.json").read_text())
"""These texts never change, or no stored run could be drawn again."""


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

    sampler._batch.model.register_forward_pre_hook(see, with_kwargs=True)
    return seen


def refilled(policy: Path, batch_size: int) -> TransformersSampler:
    """A sampler that refills its batch on a CPU as it does on a GPU.

    In float64: rounding of float32 depends on the shape of a batch, and once in many runs decides a token.
    """
    sampler = TransformersSampler(policy, device="cpu", batch_size=batch_size)
    sampler._batch.model.double()
    sampler._batch.refill_share = REFILL_SHARE
    return sampler


def test_waiting_rows_take_the_places_of_finished_ones(policy: Path) -> None:
    """One pass reads several prompts, the longest first, and padding of all rows leaves the cache."""
    sampler = refilled(policy, batch_size=16)
    drawn = complete(sampler, 60)
    seen = shapes(sampler)
    widths: list[int] = []

    def see_width(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        widths.append(given["attention_mask"].shape[1])

    sampler._batch.model.register_forward_pre_hook(see_width, with_kwargs=True)
    assert all_same(complete(sampler, 60), drawn)
    prompts = [(rows, width) for rows, width in seen if width > 1]
    assert prompts[0] == (16, 38) and sum(rows for rows, _ in prompts) == 60
    assert all(2 <= rows < 16 for rows, _ in prompts[1:-1])
    assert prompts == sorted(prompts, key=lambda prompt: -prompt[1])
    steps = [rows for rows, width in seen if width == 1]
    assert max(steps) == 16 and min(steps) < 5
    tokens = sum(result.tokens for result in drawn)
    assert tokens / 16 < len(steps) < 1.6 * tokens / 16
    assert max(widths) < 38 + DRAWN.max_new_tokens < len(steps)


def interleaved(
    sampler: TransformersSampler,
    first: Sequence[SampleRequest],
    second: Sequence[SampleRequest],
    of_second: SamplingParameters = DRAWN,
) -> tuple[list[Completion | str], list[Completion | str]]:
    """The results of two draws; the second begins when the first has begun, and ends before it goes on."""
    begun = sampler.draw(first, DRAWN)
    early = [next(begun)]
    others = dict(sampler.draw(second, of_second))
    results = dict([*early, *begun])
    return [results[n] for n in range(len(first))], [others[n] for n in range(len(second))]


ANSWERS = [SampleRequest("1+1=", seed) for seed in range(12)]
LONG = [SampleRequest("y" * 150, seed) for seed in range(12)]


def test_draws_share_a_batch_and_long_prompts_widen_its_cache(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    expected = complete(sampler, ANSWERS), complete(sampler, LONG)
    seen = shapes(sampler)
    assert all(map(all_same, interleaved(sampler, ANSWERS, LONG), expected))
    assert sum(rows for rows, width in seen if width == 150) == 12
    assert [rows for rows, _ in seen].count(4) > 0.8 * len(seen)


def test_a_row_that_joins_a_batch_is_penalised_for_its_own_tokens(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    penalised = replace(DRAWN, repetition_penalty=1.5)
    expected = [complete(sampler, [request], penalised)[0] for request in ANSWERS]
    assert all_same(complete(sampler, ANSWERS, penalised), expected)


def test_draws_with_other_settings_wait_for_an_empty_batch(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    expected = complete(sampler, ANSWERS), complete(sampler, LONG, GREEDY)
    seen = shapes(sampler)
    assert all(map(all_same, interleaved(sampler, ANSWERS, LONG, GREEDY), expected))
    before = [width for _, width in seen].index(150)
    assert sum(rows for rows, width in seen[:before] if width == 4) == 12
    assert seen[before][0] == 4 and seen[before - 1][0] < 4


def test_rows_of_a_draw_that_is_closed_give_way_to_those_of_others(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    expected = complete(sampler, LONG)
    abandoned, others = sampler.draw(ANSWERS, DRAWN), sampler.draw(LONG, DRAWN)
    next(abandoned)
    seen = shapes(sampler)
    results = dict([next(others)])
    passes = len(seen)
    abandoned.close()  # type: ignore[attr-defined]  # draws are generators
    results |= dict(others)
    assert seen[passes][1] == 150
    assert all_same([results[n] for n in range(12)], expected)


def test_an_error_concerns_the_draw_at_fault_alone(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    expected = complete(sampler, LONG)
    bad = sampler._tokenizer("?")["input_ids"]

    def fail(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        prompts = given["input_ids"]
        if prompts.shape[1] > 1 and (prompts[:, 0] == bad[0]).any():
            raise RuntimeError("a bad prompt")

    hook = sampler._batch.model.register_forward_pre_hook(fail, with_kwargs=True)
    good, poisoned = sampler.draw(LONG, DRAWN), sampler.draw([SampleRequest("?" * 150, 0)], DRAWN)
    results = dict([next(good)])
    with pytest.raises(RuntimeError, match="a bad prompt"):
        next(poisoned)
    hook.remove()
    results |= dict(good)
    assert all_same([results[n] for n in range(12)], expected)


@pytest.fixture
def no_room_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory runs out when new rows, which have their first token, join the batch; later it does not."""
    join = Batch.join

    def fail(batch: Batch, other: Batch) -> None:
        monkeypatch.setattr(Batch, "join", join)
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(Batch, "join", fail)


@pytest.mark.usefixtures("no_room_once")
def test_rows_that_end_in_a_pass_that_fails_are_drawn_again(policy: Path) -> None:
    sampler, one_token = refilled(policy, batch_size=4), replace(DRAWN, max_new_tokens=1)
    long, short = sampler.draw(LONG[:3], DRAWN), sampler.draw(ANSWERS[:2], one_token)
    results = dict([next(long)])
    begun = dict(short)
    results |= dict(long)
    again = refilled(policy, batch_size=4)
    assert all_same([begun[n] for n in range(2)], draw_all(again, ANSWERS[:2], one_token))
    assert all_same([results[n] for n in range(3)], draw_all(again, LONG[:3], DRAWN))


@pytest.mark.usefixtures("no_room_once")
def test_a_draw_that_failed_holds_no_other_up_before_it_is_told(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    failed, other = sampler.draw(LONG, DRAWN), sampler.draw(ANSWERS, DRAWN)
    next(failed)
    results = dict(other)
    assert all_same([results[n] for n in range(12)], complete(refilled(policy, batch_size=4), ANSWERS))
    with pytest.raises(EngineMemoryError, match="no room"):
        next(failed)


def test_an_interrupted_pass_spoils_no_text_of_others(policy: Path) -> None:
    sampler = refilled(policy, batch_size=4)
    expected = complete(sampler, LONG)
    others, interrupted = sampler.draw(LONG, DRAWN), sampler.draw(ANSWERS, DRAWN)
    results = dict([next(others)])

    def interrupt(*_: Any) -> None:  # the cache has the new tokens already
        raise KeyboardInterrupt

    hook = sampler._batch.model.register_forward_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        next(interrupted)
    hook.remove()
    results |= dict(others)
    assert all_same([results[n] for n in range(12)], expected)


def test_a_cache_with_a_window_is_refilled_only_when_it_is_empty(tmp_path: Path) -> None:
    policy = sliding_window(tmp_path)
    expected = complete(TransformersSampler(policy, device="cpu"), 20)
    sampler = refilled(policy, batch_size=8)
    seen = shapes(sampler)
    assert all_same(complete(sampler, 20), expected)
    assert [rows for rows, width in seen if width > 1] == [8, 8, 4]


def test_finished_rows_run_over_no_learned_position(tmp_path: Path) -> None:
    """Rows at the end of the context wait in the batch while others are drawn."""
    sampler = refilled(learned_positions(tmp_path), batch_size=16)
    asked = [SampleRequest("y" * (254 if n < 2 else 30), n) for n in range(16)]
    together = complete(sampler, asked)
    assert max(result.tokens for result in together[:2]) <= 2 < 30 < max(one.tokens for one in together)
    assert all_same(draw_all(sampler, asked[:3]), together[:3])


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


@pytest.mark.parametrize("width", [5, 90])
def test_new_rows_of_a_cache_end_with_the_others_and_replace_old_ones(width: int) -> None:
    config = tiny.qwen_configuration(tiny.qwen_tokenizer())
    cache, other = growing_cache(config), growing_cache(config)
    old, new = torch.randn(2, 3, 1, 9, 16), torch.randn(2, 4, 1, width, 16)
    for states, filled in ((old, cache), (new, other)):
        filled.update(*states, 0)
    layer = cache.layers[0]
    layer.put(torch.tensor([1, 3, 4]), 5, other.layers[0], torch.tensor([0, 2, 3]))
    assert layer.get_seq_length() == max(9, width)
    for states, before, fresh in zip((layer.keys, layer.values), old, new, strict=True):
        assert torch.equal(states[[0, 2], :, -9:], before[[0, 2]])
        assert torch.equal(states[[1, 3, 4], :, -width:], fresh[[0, 2, 3]])
    layer.cut(4)
    token = torch.randn(2, 5, 1, 1, 16)
    keys, _ = layer.update(*token)
    assert keys.shape[2] == max(9, width) - 3 and torch.equal(keys[:, :, -1:], token[0])
    assert torch.equal(keys[[0, 2], :, -6:-1], old[0][[0, 2], :, 4:])


def test_a_batch_that_memory_does_not_hold_is_halved_for_the_next_attempt(policy: Path) -> None:
    expected = complete(TransformersSampler(policy, device="cpu"), 20)
    sampler = TransformersSampler(policy, device="cpu", batch_size=20)
    seen = shapes(sampler, most_rows=6)
    for _ in range(2):
        with pytest.raises(EngineMemoryError, match="no room"):
            draw_all(sampler, requests(20))
    assert all_same(draw_all(sampler, requests(20)), expected)
    prompts = [rows for rows, width in seen if width > 1]
    assert prompts[:3] == [20, 10, 5] and sum(prompts[2:]) == 20
    assert max(rows for rows, _ in seen[2:]) == 5


def test_the_shipped_policy_draws_the_texts_of_every_earlier_version() -> None:
    requests = [SampleRequest(draw["prompt"], draw["seed"]) for draw in GOLDEN["draws"]]
    sampler = build_sampler("builtin:demo-policy", device="cpu")
    results = draw_all(sampler, requests, SamplingParameters(1.5, 0.9, 60))
    for draw, result in zip(GOLDEN["draws"], results, strict=True):
        ended = draw["tokens"], draw["finish_reason"], draw["logprob"]
        assert same(result, Completion(draw["text"], *ended, milliseconds=0.0))


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
