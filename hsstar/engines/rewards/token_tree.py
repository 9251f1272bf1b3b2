"""Texts as a tree of tokens: what several of them begin with is there once, and nothing is padding."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hsstar.engines.loading import TokenIds


@dataclass(frozen=True, slots=True)
class TokenTree:
    """The distinct beginnings of some texts, each a token after the tokens of its text before it.

    Attributes:
        tokens: one for each beginning; a text's own come after those that it shares.
        positions: of each of them, how many tokens stand before it in its texts.
        paths: of each text, where in `tokens` its own tokens are, in order.
    """

    tokens: TokenIds
    positions: list[int]
    paths: list[list[int]]


def grow_tree(texts: Sequence[TokenIds]) -> TokenTree:
    """The tree of texts in sorted order; in another order less is shared."""
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
    """How many tokens the tree of the first text has, that of the first two, and so on."""
    size = 0
    before: TokenIds = []
    for text in texts:
        size += len(text) - shared_length(before, text)
        yield size
        before = text


def shared_length(left: TokenIds, right: TokenIds) -> int:
    """How many tokens two texts begin with alike."""
    for place, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return place
    return min(len(left), len(right))
