"""A key-value cache that is written in place, with spare room, instead of copied for every token."""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_LEAST_GROWTH = 64
"""Tokens of spare room at least; more where the cache is long, so that growing stays rare."""


class _GrowingLayer(DynamicLayer):  # type: ignore[misc]  # transformers has no types
    """Keys and values of one layer; `keys` and `values` show the filled part of a larger store.

    Tensors are of shape (rows, heads, tokens, head size).
    """

    def update(
        self, key_states: Tensor, value_states: Tensor, *_arguments: Any, **_options: Any
    ) -> tuple[Tensor, Tensor]:
        """Appends the states of new tokens; all keys and values so far."""
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
        """Keeps the rows of these numbers."""
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
    """An empty cache for a model of this configuration.

    Layers with full attention are written in place. `DynamicCache` alone allocates and copies all of
    its keys and values for every token, which costs more than the attention on a CPU.
    """
    cache = DynamicCache(config=config)
    cache.layers = [_GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache
