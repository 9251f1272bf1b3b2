"""Batches are filled by padded tokens, longest texts first, and halved where memory does not hold them."""

import gc
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.errors import EngineMemoryError
from hsstar.engines.rewards.base import PackedRewardModel, ScoredText
from hsstar.engines.rewards.contract import RewardRequest, StepRewards

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
            raise torch.OutOfMemoryError(f"no room for {len(texts)} × {width}")
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


def test_other_errors_pass_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    model = LengthModel(4_000)
    monkeypatch.setattr(model, "shapes", None)
    with pytest.raises(AttributeError, match="'NoneType' object"):
        check_scores(model, [3])
