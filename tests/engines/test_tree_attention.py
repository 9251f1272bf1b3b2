"""Step rewards over a tree of tokens: what texts share changes no reward, whatever the kernel."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import CodeGenConfig, CodeGenForCausalLM

from hsstar.domain.errors import CheckpointError, EngineMemoryError, MissingDependencyError
from hsstar.engines.registry import build_reward_model
from hsstar.engines.rewards.contract import RewardRequest
from hsstar.engines.rewards.token_tree import grow_tree, shared_length, tree_sizes
from hsstar.engines.rewards.tree_attention import choose_kernel
from tests.engines import tiny
from tests.engines.reward_references import requests, skywork_reference

MOST = 160
"""Tokens that fit into a memory which is too small for a batch."""
TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=10).map(sorted)
"""Few different tokens, so that much is shared."""


@given(texts=TEXTS)
def test_every_text_is_a_path_and_every_beginning_is_there_once(texts: list[list[int]]) -> None:
    tree = grow_tree(texts)
    positions = [[tree.positions[place] for place in path] for path in tree.paths]
    assert [[tree.tokens[place] for place in path] for path in tree.paths] == texts
    assert positions == [list(range(len(text))) for text in texts]
    beginnings = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    assert len(tree.tokens) == len(tree.positions) == len(beginnings)
    grown = [len(grow_tree(texts[: count + 1]).tokens) for count in range(len(texts))]
    assert list(tree_sizes(texts)) == grown


@given(left=st.lists(st.integers(0, 2)), right=st.lists(st.integers(0, 2)))
def test_what_two_texts_share_ends_where_they_differ(left: list[int], right: list[int]) -> None:
    length = shared_length(left, right)
    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or length == len(left) == len(right)


def samples_of_one_problem() -> list[RewardRequest]:
    """Responses that begin alike, one that goes on where another ends, one twice; and another problem."""
    first, second, third = "Add the tens.", "Then the ones.", "So it is 46."
    steps = [
        (first, second, third), (first, second), (first, "Then the ones. Or not."), ("Guess.",),
        (first, second), (first + " All of them.", third),
    ]  # fmt: skip
    return [RewardRequest("What is 12+34?", each) for each in steps] + [RewardRequest("5*6?", (first, third))]


def widths(model: Any, most: int = 1_000_000) -> list[int]:
    """The lengths of the rows that pass through a model from now on; longer ones do not fit into memory."""
    rows: list[int] = []

    def see(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        rows.append(given["input_ids"].shape[1])
        if rows[-1] > most:
            raise torch.OutOfMemoryError("no room")

    model._model.register_forward_pre_hook(see, with_kwargs=True)
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
    expected, rows = model.score(made), widths(model, MOST)
    scored, tried = model.score(made), rows.copy()
    rows.clear()
    for left, right, again in zip(scored, expected, model.score(made), strict=True):
        assert left.rewards == pytest.approx(right.rewards, abs=1e-5)
        assert again.rewards == pytest.approx(right.rewards, abs=1e-5)
    assert max(tried) > MOST >= max(rows)  # the smaller size is kept
    with pytest.raises(EngineMemoryError, match="a text of 203 tokens alone does not fit"):
        model.score([RewardRequest("p", ("a" * 200,))])


def flash_attn_func(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """What the package flash-attn computes; states are (1, tokens, heads, width)."""
    (before, after), length = options["window_size"], query.shape[1]
    assert options["causal"] and after in (-1, 0)
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    mask = seen.triu(-before) if before >= 0 else seen
    states = [state.transpose(1, 2) for state in (query, key, value)]
    settings: dict[str, Any] = {"attn_mask": mask, "scale": options["softmax_scale"], "enable_gqa": True}
    return scaled_dot_product_attention(states[0], states[1], states[2], **settings).transpose(1, 2)


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
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_positions": 256}
    model = CodeGenForCausalLM(CodeGenConfig(vocab_size=len(tokenizer), **sizes))
    path = tiny.write_skywork(tmp_path, tokenizer, model)
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
