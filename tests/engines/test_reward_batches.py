"""Batches of texts that are scored: what texts share, how a batch is filled, and how memory limits it."""

import gc
import sys
from collections.abc import Iterator, Sequence
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
from hsstar.engines.rewards.base import PackedRewardModel, ScoredText
from hsstar.engines.rewards.contract import RewardRequest, StepRewards
from hsstar.engines.rewards.outcome import OutcomeRewardModel
from hsstar.engines.rewards.token_tree import grow_tree, tree_sizes
from tests.engines import tiny
from tests.engines.reward_references import requests, skywork_reference

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


def samples_of_one_problem() -> list[RewardRequest]:
    """Responses that begin alike, one that goes on where another ends, one twice; and another problem."""
    first, second, third = "Add the tens.", "Then the ones.", "So it is 46."
    begun_alike = [(first, second, third), (first, second), (first, "Then the ones. Or not.")]
    steps = [*begun_alike, ("Guess.",), (first, second), (first + " All of them.", third)]
    return [RewardRequest("What is 12+34?", each) for each in steps] + [RewardRequest("5*6?", (first, third))]


def widths(model: Any) -> list[int]:
    """The lengths of the rows that pass through a model from now on."""
    rows: list[int] = []
    model._model.register_forward_pre_hook(
        lambda module, arguments, given: rows.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    return rows


@pytest.mark.parametrize("batch_tokens", [1, 40, 90, None])
def test_what_responses_share_is_computed_once_and_changes_no_reward(
    skywork: Path, batch_tokens: Any
) -> None:
    made = [*samples_of_one_problem(), *requests()]
    model: Any = build_reward_model(skywork, device="cpu", batch_tokens=batch_tokens)
    rows = widths(model)
    scored = model.score(made)
    texts = [model._text(request).tokens for request in made if request.steps]
    beginnings = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    assert batch_tokens or rows == [len(beginnings)]
    assert len(beginnings) < 0.8 * sum(map(len, texts))
    assert max(rows) <= max(batch_tokens or len(beginnings), *map(len, texts))
    for request, result in zip(made, scored, strict=True):
        assert result.rewards == pytest.approx(skywork_reference(skywork, request), abs=1e-5)


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


def test_an_attention_package_that_is_missing_is_named(
    skywork: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hsstar.engines.rewards.tree_attention.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match="flash-attn"):
        build_reward_model(skywork, device="cpu", attention="flash_attention_2")


CONTEXT = 100
LENGTHS = st.lists(st.integers(0, CONTEXT + 5), max_size=40)


@pytest.fixture(scope="module", autouse=True)
def _quick_collection() -> Iterator[None]:
    """Every halving collects garbage; what was there before is left out, as it may take seconds."""
    gc.freeze()
    yield
    gc.unfreeze()


class LengthModel(PackedRewardModel):
    """A text has a token per letter, ends at its last one, and its length is its reward."""

    name = "length"
    error: type[Exception] = torch.OutOfMemoryError

    def __init__(self, batch_tokens: int, memory: int = 1_000_000) -> None:
        super().__init__(torch.device("cpu"), batch_tokens)
        self.memory = memory
        self.shapes: list[tuple[int, int]] = []

    def _text(self, request: RewardRequest) -> ScoredText:
        length = len(request.problem)
        return ScoredText([7] * length, (length - 1,) if length else ()).within(CONTEXT)

    def _score_batch(self, texts: Sequence[ScoredText]) -> list[tuple[float, ...]]:
        width = max(len(text.tokens) for text in texts)
        self.shapes.append((len(texts), width))
        if len(texts) * width > self.memory:
            raise self.error(f"no room for {len(texts)} × {width}")
        return [(len(text.tokens),) for text in texts]


def check_scores(model: LengthModel, lengths: Sequence[int]) -> None:
    assert model.score([RewardRequest("a" * length, ()) for length in lengths]) == [
        StepRewards((length,) if 0 < length <= CONTEXT else (), truncated=length > CONTEXT)
        for length in lengths
    ]


@given(lengths=LENGTHS, batch_tokens=st.integers(1, 500))
def test_batches_hold_their_padded_tokens_and_widths_fall(lengths: list[int], batch_tokens: int) -> None:
    model = LengthModel(batch_tokens)
    check_scores(model, lengths)
    widths = [width for _, width in model.shapes]
    assert widths == sorted(widths, reverse=True)
    assert all(rows == 1 or rows * width <= batch_tokens for rows, width in model.shapes)


@given(lengths=LENGTHS, memory=st.integers(CONTEXT, 500))
def test_a_batch_that_memory_does_not_hold_is_halved(lengths: list[int], memory: int) -> None:
    model = LengthModel(4_000, memory)
    check_scores(model, lengths)
    failed = [shape for shape in model.shapes if shape[0] * shape[1] > memory]
    model.shapes.clear()
    check_scores(model, lengths)
    assert failed == [] or model.shapes[0][0] < failed[0][0]  # the smaller size is kept
    assert all(rows * width <= memory for rows, width in model.shapes)


def test_a_text_that_memory_does_not_hold_alone_is_an_error_and_the_model_goes_on() -> None:
    model = LengthModel(4_000, memory=50)
    with pytest.raises(EngineMemoryError, match="a text of 51 tokens alone does not fit"):
        check_scores(model, [3, 51])
    check_scores(model, [3, 50])


def test_other_errors_pass_unchanged() -> None:
    model = LengthModel(4_000, memory=50)
    model.error = RuntimeError
    with pytest.raises(RuntimeError, match="no room for 1 × 51"):
        check_scores(model, [51])


@pytest.mark.parametrize(("held", "free"), [([0, 1, 2], 3), ([2, 1], 0), ([0, 2], 1)])
def test_a_decoder_without_padding_token_pads_with_one_that_no_text_holds(
    tmp_path: Path, held: list[int], free: int
) -> None:
    engine = OutcomeRewardModel(tiny.tiny_classifier(tmp_path, labels=1, pad=False), device="cpu")
    assert engine._padding_token([ScoredText(held[:1], (0,)), ScoredText(held, (1,))]) == free
