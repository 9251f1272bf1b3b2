"""What tests draw from samplers, and when two completions are the same."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.seeds import slot_seed
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.sampling.contract import Completion, Sampler, SampleRequest, SamplingParameters

DRAWN = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60)
GREEDY = SamplingParameters(temperature=0.0, top_p=1.0, max_new_tokens=40)


def requests(count: int) -> list[SampleRequest]:
    """Requests over prompts of many lengths, seeded as a run seeds them."""
    return [SampleRequest("x" * (1 + 5 * n % 37) + "=", slot_seed(1, 0, str(n), n)) for n in range(count)]


def draw_all(
    sampler: Sampler, requests: Sequence[SampleRequest], parameters: SamplingParameters = DRAWN
) -> list[Completion | str]:
    """The results of a draw in the order of the requests; there has to be one for each."""
    pairs = list(sampler.draw(requests, parameters))
    results = dict(pairs)
    assert sorted(results) == list(range(len(requests))) and len(results) == len(pairs)
    return [results[index] for index in range(len(requests))]


def completion(result: Completion | str) -> Completion:
    assert isinstance(result, Completion), result
    return result


def complete(
    sampler: Sampler, asked: int | Sequence[SampleRequest], parameters: SamplingParameters = DRAWN
) -> list[Completion]:
    """The completions of requests, or of so many of the usual ones, of which none is refused."""
    asked = requests(asked) if isinstance(asked, int) else asked
    return list(map(completion, draw_all(sampler, asked, parameters)))


def same(left: Completion | str, right: Completion | str) -> bool:
    """Whether two completions are equal up to rounding of their log-probability."""
    one, other = completion(left), completion(right)
    assert one.cumulative_logprob is not None and other.cumulative_logprob is not None
    near = abs(one.cumulative_logprob - other.cumulative_logprob) < 1e-3
    return near and replace(one, cumulative_logprob=other.cumulative_logprob) == other


def all_same(left: Sequence[Completion | str], right: Sequence[Completion | str]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


@cache
def plain_model(policy: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(policy)


def raw_logprob(policy: Path, prompt: str, drawn: Completion) -> float:
    """The log-probability of a completion by one plain forward pass."""
    tokenizer = load_tokenizer(policy)
    prompt_ids = tokenizer(prompt)["input_ids"]
    tokens = tokenizer(drawn.text, add_special_tokens=False)["input_ids"]
    if drawn.finish_reason == "stop":
        tokens.append(tokenizer.eos_token_id)
    with torch.inference_mode():
        logits = plain_model(policy)(torch.tensor([prompt_ids + tokens])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(prompt_ids) - 1 + n, token]) for n, token in enumerate(tokens))
