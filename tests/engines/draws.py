"""What tests draw from samplers, and when two completions are the same."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from hsstar.domain.seeds import slot_seed
from hsstar.engines.loading import load_tokenizer
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from tests.engines import tiny

DRAWN = SamplingParameters(temperature=0.7, top_p=0.95, max_new_tokens=60)
GREEDY = SamplingParameters(temperature=0.0, top_p=1.0, max_new_tokens=40)
VOWELS = "aeiouAEIOU0123456789"


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


def all_same(left: list[Completion | str], right: list[Completion | str]) -> bool:
    return len(left) == len(right) and all(map(same, left, right))


def ends_at_vowels(folder: Path) -> Path:
    """The tiny policy, which every letter of `VOWELS` ends."""
    letters = [tiny.qwen_tokenizer()(letter)["input_ids"][0] for letter in VOWELS]
    return tiny.tiny_policy(folder, eos_token_id=letters)


def raw_logprob(model: Any, policy: Path, prompt: str, drawn: Completion) -> float:
    """The log-probability of a completion by one plain forward pass."""
    tokenizer = load_tokenizer(policy)
    prompt_ids, tokens = (
        tokenizer(prompt)["input_ids"],
        tokenizer(drawn.text, add_special_tokens=False)["input_ids"],
    )
    if drawn.finish_reason == "stop":
        tokens.append(tokenizer.eos_token_id)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt_ids + tokens])).logits[0].float().log_softmax(-1)
    return sum(float(logits[len(prompt_ids) - 1 + n, token]) for n, token in enumerate(tokens))


def plain_model(policy: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(policy)
