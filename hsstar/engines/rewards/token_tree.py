"""Texts as a tree of tokens: a shared beginning occurs once, and no token is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hsstar.engines.loading import TokenIds


@dataclass(frozen=True, slots=True)
class TokenTree:
    """Several texts with shared beginnings stored once; a text's own tokens follow those that it shares.

    `positions` are those within the texts; `paths` holds for each text the places of its tokens, in order.
    """

    tokens: TokenIds
    positions: list[int]
    paths: list[list[int]]


def grow_tree(texts: Sequence[TokenIds]) -> TokenTree:
    """Build the tree of sorted texts; in another order they share less."""
    tree = TokenTree([], [], [])
    before: TokenIds = []
    for text in texts:
        shared = shared_length(before, text)
        path = tree.paths[-1][:shared] if shared else []
        first = len(tree.tokens)
        tree.tokens.extend(text[shared:])
        tree.positions.extend(range(shared, len(text)))
        tree.paths.append([*path, *range(first, len(tree.tokens))])
        before = text
    return tree


def tree_sizes(texts: Sequence[TokenIds]) -> Iterator[int]:
    """Yield the number of tokens in the tree of the first text, of the first two texts …"""
    size = 0
    before: TokenIds = []
    for text in texts:
        size += len(text) - shared_length(before, text)
        yield size
        before = text


def shared_length(first: TokenIds, second: TokenIds) -> int:
    """Return the length of the common beginning of two texts."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return place
    return min(len(first), len(second))
