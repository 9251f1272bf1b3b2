"""Step rewards over a tree of tokens: what texts share changes no reward, whatever the kernel."""

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import CodeGenConfig, CodeGenForCausalLM

from hsstar.domain.errors import CheckpointError, EngineMemoryError, MissingDependencyError
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.tree_attention import choose_kernel
from tests.engines import tiny
from tests.engines.reward_references import requests, skywork_reference

MOST = 160
"""Tokens that fit into a memory which is too small for a batch."""


def samples_of_one_problem() -> list[RewardRequest]:
    """Responses that begin alike, one that goes on where another ends, one twice; and another problem."""
    first, second, third = "Add the tens.", "Then the ones.", "So it is 46."
    steps = [
        (first, second, third),
        (first, second),
        (first, "Then the ones. Or not."),
        ("Guess.",),
        (first, second),
        (first + " All of them.", third),
    ]
    return [RewardRequest("What is 12+34?", each) for each in steps] + [RewardRequest("5*6?", (first, third))]


def widths(model: Any) -> list[int]:
    """The lengths of the rows that pass through a model from now on."""
    rows: list[int] = []
    model._model.register_forward_pre_hook(
        lambda module, arguments, given: rows.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    return rows


@pytest.mark.parametrize("batch_tokens", [1, 40, 90, None])
def test_what_responses_share_is_computed_once_in_batches_of_distinct_tokens_and_changes_no_reward(
    skywork: Callable[[str], Path], batch_tokens: int | None
) -> None:
    path, made = skywork("single"), [*samples_of_one_problem(), *requests()]
    model: Any = build_reward_model(path, device="cpu", batch_tokens=batch_tokens)
    rows = widths(model)

    scored = model.score(made)

    texts = [model._text(request).tokens for request in made if request.steps]
    beginnings = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    assert batch_tokens or rows == [len(beginnings)]
    assert len(beginnings) < 0.8 * sum(map(len, texts))
    assert max(rows) <= max(batch_tokens or len(beginnings), *map(len, texts))
    for request, result in zip(made, scored, strict=True):
        assert result.rewards == pytest.approx(skywork_reference(path, request), abs=1e-5)


def test_a_row_that_memory_does_not_hold_is_halved(skywork: Callable[[str], Path]) -> None:
    path, made = skywork("single"), requests()
    model: Any = build_reward_model(path, device="cpu")
    expected = model.score(made)
    rows = widths(model)

    def fail(module: Any, arguments: Sequence[Any], given: dict[str, Any]) -> None:
        if given["input_ids"].shape[1] > MOST:
            raise torch.OutOfMemoryError("no room")

    refusing = model._model.register_forward_pre_hook(fail, with_kwargs=True)
    scored = model.score(made)
    tried, rows[:] = list(rows), []
    again = model.score(made)
    refusing.remove()

    assert max(tried) > MOST >= max(rows)  # the smaller size is kept
    for result in (scored, again):
        for left, right in zip(result, expected, strict=True):
            assert left.rewards == pytest.approx(right.rewards, abs=1e-5)
    model._model.register_forward_pre_hook(fail, with_kwargs=True)
    with pytest.raises(EngineMemoryError, match="a text of 203 tokens alone does not fit"):
        model.score([RewardRequest("p", ("a" * 200,))])


def flash_attn_func(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """What the package flash-attn computes; states are (1, tokens, heads, width)."""
    (before, after), length = options["window_size"], query.shape[1]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    assert options["causal"] and after in (-1, 0)
    states = [state.transpose(1, 2) for state in (query, key, value)]
    mask = seen.triu(-before) if before >= 0 else seen
    output = scaled_dot_product_attention(
        states[0], states[1], states[2], attn_mask=mask, scale=options["softmax_scale"], enable_gqa=True
    )
    return output.transpose(1, 2)


@pytest.mark.parametrize("attention", ["auto", "sdpa", "eager", "flash_attention_2"])
def test_a_sliding_window_is_kept(tmp_path: Path, attention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package: Any = ModuleType("flash_attn")
    package.flash_attn_func, package.__spec__ = flash_attn_func, ModuleSpec("flash_attn", None)
    monkeypatch.setitem(sys.modules, "flash_attn", package)
    sliding: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
    path = tiny.tiny_skywork(tmp_path, **sliding)
    whole = build_reward_model(tiny.tiny_skywork(tmp_path / "whole"), device="cpu")
    model = build_reward_model(path, device="cpu", attention=attention)
    made = samples_of_one_problem()

    for request, result, other in zip(made, model.score(made), whole.score(made), strict=True):
        assert result.rewards == pytest.approx(skywork_reference(path, request), abs=1e-5)
        assert result.rewards != pytest.approx(other.rewards, abs=1e-5)


def test_an_architecture_that_attends_in_its_own_way_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny.qwen_tokenizer()
    model = CodeGenForCausalLM(
        CodeGenConfig(
            vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=4, rotary_dim=8, n_positions=256
        )
    )
    tensors = dict(model.state_dict()) | {
        "v_head.summary.weight": torch.ones(1, 32),
        "v_head.summary.bias": torch.zeros(1),
    }
    path = tiny.write_reward_model(tmp_path, tokenizer, model, tensors, "single")

    with pytest.raises(CheckpointError, match="cannot exchange the attention"):
        build_reward_model(path, device="cpu").score([RewardRequest("1+1?", ("two",))])


def test_an_attention_package_that_is_not_installed_is_named(
    skywork: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsstar.engines.rewards.tree_attention.find_spec", lambda name: None)

    with pytest.raises(MissingDependencyError, match="flash-attn"):
        choose_kernel("flash_attention_2")
    with pytest.raises(MissingDependencyError, match="flash-attn"):
        build_reward_model(skywork("single"), device="cpu", attention="flash_attention_2")
