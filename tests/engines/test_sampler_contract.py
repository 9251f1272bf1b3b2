"""What every sampler has to do, run over every implementation that runs on this machine."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.seeds import slot_seed
from hsstar.engines.contracts import Completion, Sampler, SampleRequest, SamplingParameters
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.registry import build_sampler
from tests.engines import tiny

DRAWN = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60)
GREEDY = SamplingParameters(temperature=0.0, top_p=1.0, max_new_tokens=40)

Build = Callable[[Path], Sampler]


@pytest.fixture(scope="session", params=["transformers"])
def build(request: pytest.FixtureRequest) -> Build:
    return lambda path: build_sampler(path, engine=request.param, device="cpu")


@pytest.fixture(scope="session")
def sampler(build: Build, policy: Path) -> Iterator[Sampler]:
    built = build(policy)
    yield built
    built.close()


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


def test_results_come_back_in_the_order_of_the_requests(sampler: Sampler) -> None:
    forward = sampler.sample(requests(20), DRAWN)
    backward = sampler.sample(requests(20)[::-1], DRAWN)

    assert all(map(same, forward, backward[::-1]))


def test_equal_requests_give_equal_completions_in_any_batch(sampler: Sampler) -> None:
    together = sampler.sample(requests(40), DRAWN)
    some = sampler.sample(requests(40)[7::9], DRAWN)
    alone = [sampler.sample([request], DRAWN)[0] for request in requests(40)[:6]]

    assert all(map(same, alone, together[:6]))
    assert all(map(same, some, together[7::9]))


def test_different_seeds_give_different_completions(sampler: Sampler) -> None:
    prompts = [SampleRequest("1+1=", seed) for seed in range(30)]

    assert len({completion(result).text for result in sampler.sample(prompts, DRAWN)}) == 30


def test_greedy_completions_do_not_depend_on_the_seed(sampler: Sampler) -> None:
    first, second = sampler.sample([SampleRequest("1+1=", 1), SampleRequest("1+1=", 2)], GREEDY)

    assert same(first, second)


def test_the_end_of_text_token_ends_a_completion_and_is_counted(sampler: Sampler) -> None:
    results = [completion(result) for result in sampler.sample(requests(200), DRAWN)]
    stopped = [result for result in results if result.finish_reason == "stop"]

    assert stopped, "the tiny policy ends some of its texts"
    for result in stopped:
        assert tiny.END not in result.text
        assert result.tokens == len(result.text) + 1  # one token per character, and the end


def test_a_completion_that_reaches_its_limit_says_so(sampler: Sampler) -> None:
    results = [completion(result) for result in sampler.sample(requests(200), DRAWN)]
    cut = [result for result in results if result.finish_reason == "length"]

    assert cut
    assert {result.tokens for result in cut} == {DRAWN.max_new_tokens}
    assert {len(result.text) for result in cut} == {DRAWN.max_new_tokens}


def test_the_logprob_is_that_of_the_raw_distribution(sampler: Sampler, policy: Path) -> None:
    tokenizer = load_tokenizer(policy)
    for request, result in zip(requests(12), sampler.sample(requests(12), DRAWN), strict=True):
        drawn = completion(result)
        tokens = tokenizer(drawn.text)["input_ids"]
        if drawn.finish_reason == "stop":
            tokens.append(tokenizer.eos_token_id)
        expected = sum(raw_logprobs(policy, request.prompt, tokens))
        assert drawn.cumulative_logprob == pytest.approx(expected, abs=1e-3)


def test_a_stop_string_ends_the_completion_before_it(sampler: Sampler) -> None:
    free = [completion(result) for result in sampler.sample(requests(40), DRAWN)]
    stop = ("ab", free[0].text[20:23], free[3].text[9])
    held = SamplingParameters(DRAWN.temperature, DRAWN.top_p, DRAWN.max_new_tokens, stop)

    for before, result in zip(free, sampler.sample(requests(40), held), strict=True):
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

    results = sampler.sample([SampleRequest("y" * 300, 1), good, SampleRequest("y" * 256, 1)], DRAWN)

    assert isinstance(results[0], str) and "300 tokens" in results[0]
    assert same(results[1], sampler.sample([good], DRAWN)[0])
    assert isinstance(results[2], str)


def test_new_tokens_are_capped_at_the_context(sampler: Sampler) -> None:
    request = SampleRequest("y" * 250, 1)

    result = completion(sampler.sample([request], SamplingParameters(0.7, 1.0, 100))[0])

    assert result.tokens <= 6


def test_an_empty_prompt_gives_a_reason(sampler: Sampler) -> None:
    results = sampler.sample([SampleRequest("", 1), SampleRequest("1", 1)], GREEDY)

    assert isinstance(results[0], str)
    assert isinstance(results[1], Completion)


def test_no_requests_give_no_results(sampler: Sampler) -> None:
    assert sampler.sample([], DRAWN) == []


def test_greedy_decoding_is_that_of_transformers_generate(build: Build, policy: Path) -> None:
    tokenizer, model = load_tokenizer(policy), AutoModelForCausalLM.from_pretrained(policy)
    prompt = torch.tensor([tokenizer("12*3=\n")["input_ids"]])
    expected = model.generate(prompt, do_sample=False, max_new_tokens=40)[0, prompt.shape[1] :]

    drawn = completion(build(policy).sample([SampleRequest("12*3=\n", 0)], GREEDY)[0])

    assert drawn.text == tokenizer.decode(expected, skip_special_tokens=True)


def test_a_tokenizer_without_padding_token_and_with_beginning_token(build: Build, llama_policy: Path) -> None:
    sampler = build(llama_policy)
    together = sampler.sample(requests(12), DRAWN)

    assert same(together[5], sampler.sample(requests(12)[5:6], DRAWN)[0])


def test_any_of_several_end_of_text_tokens_ends_a_completion(build: Build, tmp_path: Path) -> None:
    letters = [tiny.qwen_tokenizer()(letter)["input_ids"][0] for letter in "aeiouAEIOU0123456789"]
    sampler = build(tiny.tiny_policy(tmp_path, eos_token_id=letters))

    results = [completion(result) for result in sampler.sample(requests(50), DRAWN)]

    assert sum(result.finish_reason == "stop" for result in results) > 40
    assert not set("aeiouAEIOU0123456789") & set("".join(result.text for result in results))
