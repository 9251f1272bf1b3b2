"""Rewards by the published inference code, run plainly on one response at a time."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from hsstar.engines.loading import load_tokenizer, read_tensors
from hsstar.engines.rewards.contract import RewardRequest


@cache
def load(path: Path, model: Any = AutoModelForCausalLM) -> Any:
    return model.from_pretrained(path, key_mapping={r"^pretrained_model\.": ""})


def last_hidden_states(path: Path, tokens: list[int]) -> torch.Tensor:
    """Shape (tokens, width), by the whole language model and without a batch."""
    with torch.inference_mode():
        states: tuple[torch.Tensor, ...] = load(path)(
            torch.tensor([tokens]), output_hidden_states=True
        ).hidden_states
    return states[-1][0]


def skywork_reference(path: Path, request: RewardRequest) -> list[float]:
    """The published `prepare_input` and `derive_step_rewards`."""
    tokenizer = load_tokenizer(path)
    tokens = tokenizer.encode((tokenizer.bos_token or "") + request.problem + "\n")
    flags = [0] * len(tokens)
    separator = tokenizer.encode("\n")[-1]
    for step in request.steps:
        step_tokens = [*tokenizer.encode(step), separator]
        tokens += step_tokens
        flags += [0] * (len(step_tokens) - 1) + [1]
    weight, bias = read_tensors(path, ("v_head.summary.weight", "v_head.summary.bias"))
    values = last_hidden_states(path, tokens) @ weight[0] + bias
    return [float(value.sigmoid()) for value, flag in zip(values, flags, strict=True) if flag]


def qwen_math_reference(path: Path, request: RewardRequest) -> list[float]:
    """The model card's `make_step_rewards`."""
    tokenizer = load_tokenizer(path)
    system = "Please reason step by step, and put your final answer within \\boxed{}."
    chat = [
        {"role": "system", "content": system},
        {"role": "user", "content": request.problem},
        {"role": "assistant", "content": "<extra_0>".join(request.steps) + "<extra_0>"},
    ]
    tokens = tokenizer.encode(tokenizer.apply_chat_template(chat, tokenize=False))
    end = tokenizer.encode("<extra_0>")[0]
    head = [f"score.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")]
    first, first_bias, last, last_bias = read_tensors(path, head)
    logits = (last_hidden_states(path, tokens) @ first.T + first_bias).relu() @ last.T + last_bias
    return [float(row.softmax(-1)[1]) for row, token in zip(logits, tokens, strict=True) if token == end]


def outcome_reference(path: Path, request: RewardRequest) -> list[float]:
    """The classifier called on the text as its own tokenizer gives it."""
    tokenizer = load_tokenizer(path)
    response = "\n\n".join(request.steps)
    chat = [{"role": "user", "content": request.problem}, {"role": "assistant", "content": response}]
    if tokenizer.chat_template:
        inputs = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), return_tensors="pt")
    elif tokenizer.sep_token:
        inputs = tokenizer(request.problem, response, return_tensors="pt")
    else:
        inputs = tokenizer(request.problem + "\n" + response, return_tensors="pt")
    with torch.inference_mode():
        logits = load(path, AutoModelForSequenceClassification)(**inputs).logits[0]
    return [float(logits.sigmoid()) if len(logits) == 1 else float(logits.softmax(-1)[1])]


REFERENCES: dict[str, Callable[[Path, RewardRequest], list[float]]] = {
    "skywork": skywork_reference,
    "qwen-math": qwen_math_reference,
    "outcome": outcome_reference,
}
"""By family of reward model."""


def requests() -> list[RewardRequest]:
    """Responses of one to six steps and many lengths, one without steps among them."""
    made = [
        RewardRequest(f"What is {n}+{n}?", tuple(f"Step {k}: " + "so " * (n % 7) for k in range(n % 6 + 1)))
        for n in range(14)
    ]
    return [*made[:5], RewardRequest("1+1?", ()), *made[5:]]
