"""A key-value cache with spare room: new tokens are written in place, and new rows take the places of old."""

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
            self._stores = [_enlarged(store, len(store), 0, filled, needed) for store in self._stores]
        for store, states in zip(self._stores, (key_states, value_states), strict=True):
            store[:, :, filled:needed] = states
        self._show(needed)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        filled = self.get_seq_length()
        self._stores = [store[indices] for store in self._stores]
        self._show(filled)

    def put(self, places: Tensor, rows: int, other: "_GrowingLayer", chosen: Tensor) -> None:
        """Write chosen rows of another layer into these places, of `rows`; both end with the same token."""
        filled, tokens = self.get_seq_length(), other.get_seq_length()
        needed = max(filled, tokens)
        if rows > len(self._stores[0]) or needed > filled:
            shift = needed - filled
            self._stores = [_enlarged(store, rows, shift, filled, needed) for store in self._stores]
        for store, states in zip(self._stores, (other.keys, other.values), strict=True):
            store[places, :, needed - tokens : needed] = states[chosen]
        self._show(needed)

    def cut(self, tokens: int) -> None:
        """Forget the first tokens of all rows."""
        filled = self.get_seq_length()
        self._stores = [store[:, :, tokens:] for store in self._stores]
        self._show(filled - tokens)

    def _show(self, filled: int) -> None:
        self.keys, self.values = (store[:, :, :filled] for store in self._stores)


def _enlarged(store: Tensor, rows: int, shift: int, filled: int, needed: int) -> Tensor:
    """Return a larger store with the filled part of this one, moved to the right."""
    before, heads, _, size = store.shape
    larger = store.new_empty((rows, heads, needed + max(_LEAST_GROWTH, needed // 4), size))
    larger[:before, :, shift : shift + filled] = store[:, :, :filled]
    return larger


def growing_cache(config: Any) -> DynamicCache:
    """Return a cache whose full-attention layers grow in place; `DynamicCache` copies all for each token."""
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def takes_rows(cache: DynamicCache) -> bool:
    """Return whether new rows can be put into a cache: all its layers have full attention."""
    return all(isinstance(layer, _GrowingLayer) for layer in cache.layers)
