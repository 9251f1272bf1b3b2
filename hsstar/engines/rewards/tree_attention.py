"""Attention over a tree of tokens: every text attends to its own tokens only.

It computes text by text with a causal kernel; the rest of a layer runs once for every token of the tree.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from hsstar.domain.errors import MissingDependencyError

TREE_ATTENTION = "hsstar-tree"
"""The value of `attn_implementation`."""

Kernel = Callable[[Tensor, Tensor, Tensor, float | None, int | None], Tensor]
"""Causal attention of one text.

Arguments: queries, (1, heads, tokens, width); keys and values, which may have fewer heads; the scale of the
products; the number of tokens that each token sees. The result has the shape of the queries.
"""


@dataclass(slots=True)
class TreePaths:
    """The tree in a row: `paths` holds each text's places, `layers` counts those that used this attention."""

    kernel: Kernel
    paths: Sequence[Tensor]
    layers: int = 0


def choose_kernel(attention: str) -> Kernel:
    """Return the kernel of `reward.attention`; raise MissingDependencyError without its package."""
    if attention == "flash_attention_2":
        require_flash_attention()
        return _flash
    return _plain if attention == "eager" else _fused


def require_flash_attention() -> None:
    """Raise MissingDependencyError if the package of `flash_attention_2` is not installed."""
    if find_spec("flash_attn") is None:
        raise MissingDependencyError("reward.attention = 'flash_attention_2' needs the package flash-attn")


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    tree: TreePaths,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attend in a layer of transformers: from states, (1, heads, tokens, width), to (1, tokens, …)."""
    output = value.new_empty(*query.shape[:-1], value.shape[-1])
    for path in tree.paths:
        own = query[:, :, path], key[:, :, path], value[:, :, path]
        output[:, :, path] = tree.kernel(*own, scaling, sliding_window)
    tree.layers += 1
    return output.transpose(1, 2), None


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    """Use PyTorch's choice, a flash kernel on most GPUs."""
    mask = _sliding_mask(query, window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _plain(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    with sdpa_kernel(SDPBackend.MATH):
        return _fused(query, key, value, scale, window)


def _flash(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    from flash_attn import flash_attn_func

    states = (state.transpose(1, 2) for state in (query, key, value))
    seen = (-1, -1) if window is None else (window - 1, 0)
    output: Tensor = flash_attn_func(*states, softmax_scale=scale, causal=True, window_size=seen)
    return output.transpose(1, 2)


def _sliding_mask(query: Tensor, window: int | None) -> Tensor | None:
    """Return which tokens each token sees, (tokens, tokens); None if it sees all before it."""
    length = query.shape[2]
    if window is None or length <= window:
        return None
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return seen.tril().triu(1 - window)


AttentionInterface.register(TREE_ATTENTION, _attend)
