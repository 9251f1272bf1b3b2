"""A key-value cache with spare room: new tokens are written in place, without a copy of the cache."""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_LEAST_GROWTH = 64
"""Least spare room in tokens; a long cache gets more, so that it seldom grows."""


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of one layer, (rows, heads, tokens, head size): the filled part of a larger store."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_arguments: Any, **_options: Any
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._stores = [key_states[:, :, :0], value_states[:, :, :0]]
        filled = self.get_seq_length()
        needed = filled + key_states.shape[-2]
        if needed > self._stores[0].shape[-2]:
            self._stores = [_enlarged(store, filled, needed) for store in self._stores]
        for store, states in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, filled:needed] = states
        self._show(needed)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        filled = self.get_seq_length()
        self._stores = [store[indices] for store in self._stores]
        self._show(filled)

    def _show(self, filled: int) -> None:
        self.keys, self.values = (store[:, :, :filled] for store in self._stores)


def _enlarged(store: Tensor, filled: int, needed: int) -> Tensor:
    rows, heads, _, size = store.shape
    larger = store.new_empty((rows, heads, needed + max(_LEAST_GROWTH, needed // 4), size))
    larger[:, :, :filled] = store[:, :, :filled]
    return larger


def growing_cache(config: Any) -> DynamicCache:
    """Return a cache whose full-attention layers grow in place; `DynamicCache` copies all for each token."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
