"""Attention over a tree of tokens: every text attends to its own tokens, whatever else is in the row.

It is registered with transformers as an attention implementation, and computes text by text with a causal
kernel; all else in a layer is computed once for every token of the tree.
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
"""Its name as `attn_implementation`."""

Kernel = Callable[[Tensor, Tensor, Tensor, float | None, int | None], Tensor]
"""Causal attention of one text.

Takes queries, (1, heads, tokens, width), keys and values, which may have fewer heads, the scale of the
products, and how many tokens back each token sees; gives what the queries have found, shaped like them.
"""


@dataclass(slots=True)
class TreePaths:
    """What the attention is told of the tree in a row.

    Attributes:
        paths: of each text, the places of its tokens in the row.
        layers: how many layers have attended by them.
    """

    kernel: Kernel
    paths: Sequence[Tensor]
    layers: int = 0


def choose_kernel(attention: str) -> Kernel:
    """The kernel of a recipe's `reward.attention`.

    Raises:
        MissingDependencyError: it is of a package that is not installed.
    """
    if attention == "flash_attention_2":
        require_flash_attention()
        return _flash
    return _plain if attention == "eager" else _fused


def require_flash_attention() -> None:
    """Looks for the package of `flash_attention_2`.

    Raises:
        MissingDependencyError: it is not installed.
    """
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
    """What a layer of transformers calls: states of the row, (1, heads, tokens, width), to (1, tokens, …)."""
    found = value.new_empty(*query.shape[:-1], value.shape[-1])
    for path in tree.paths:
        own = query[:, :, path], key[:, :, path], value[:, :, path]
        found[:, :, path] = tree.kernel(*own, scaling, sliding_window)
    tree.layers += 1
    return found.transpose(1, 2), None


def _fused(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    """PyTorch's own choice, which is a flash kernel on most GPUs."""
    mask = _sliding_mask(query, window)
    return scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=True
    )


def _plain(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    """The same by single products."""
    with sdpa_kernel(SDPBackend.MATH):
        return _fused(query, key, value, scale, window)


def _flash(query: Tensor, key: Tensor, value: Tensor, scale: float | None, window: int | None) -> Tensor:
    """The same by the package flash-attn."""
    from flash_attn import flash_attn_func

    states = (state.transpose(1, 2) for state in (query, key, value))
    seen = (-1, -1) if window is None else (window - 1, 0)
    found: Tensor = flash_attn_func(*states, softmax_scale=scale, causal=True, window_size=seen)
    return found.transpose(1, 2)


def _sliding_mask(query: Tensor, window: int | None) -> Tensor | None:
    """Which tokens each token sees, (tokens, tokens), where it is fewer than all before it."""
    length = query.shape[2]
    if window is None or length <= window:
        return None
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device)
    return seen.tril().triu(1 - window)


AttentionInterface.register(TREE_ATTENTION, _attend)
