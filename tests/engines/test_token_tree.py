"""The tree of some texts holds each of their beginnings once, and every text in order."""

from hypothesis import given
from hypothesis import strategies as st

from hsstar.engines.rewards.token_tree import grow_tree, shared_length, tree_sizes

TEXTS = st.lists(st.lists(st.integers(0, 2), max_size=12), max_size=10).map(sorted)
"""Few different tokens, so that much is shared."""


@given(texts=TEXTS)
def test_every_text_is_a_path_and_every_beginning_is_there_once(texts: list[list[int]]) -> None:
    tree = grow_tree(texts)

    assert [[tree.tokens[place] for place in path] for path in tree.paths] == texts
    assert [[tree.positions[place] for place in path] for path in tree.paths] == [
        list(range(len(text))) for text in texts
    ]
    beginnings = {tuple(text[: end + 1]) for text in texts for end in range(len(text))}
    assert len(tree.tokens) == len(tree.positions) == len(beginnings)


@given(texts=TEXTS)
def test_sizes_are_those_of_the_trees_of_the_first_texts(texts: list[list[int]]) -> None:
    assert list(tree_sizes(texts)) == [
        len(grow_tree(texts[:count]).tokens) for count in range(1, len(texts) + 1)
    ]


@given(left=st.lists(st.integers(0, 2)), right=st.lists(st.integers(0, 2)))
def test_what_two_texts_share_ends_where_they_differ(left: list[int], right: list[int]) -> None:
    length = shared_length(left, right)

    assert left[:length] == right[:length]
    assert left[length : length + 1] != right[length : length + 1] or length == len(left) == len(right)
