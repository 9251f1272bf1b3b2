"""What two texts do not have in common, word by word, in bounded time."""

import pytest

from hsstar.web.differences import MOST_WORDS, Part, mark_differences


def text_of(parts: list[Part]) -> str:
    return "".join(text for text, _ in parts)


def marked(parts: list[Part]) -> list[str]:
    return [text for text, differs in parts if differs]


@pytest.mark.parametrize(
    ("first", "second", "only_first", "only_second"),
    [
        ("So x = 2.", "So x = 3.", ["2"], ["3"]),
        ("the same", "the same", [], []),
        ("", "all new", [], ["all new"]),
        ("a b c d", "a c d", ["b "], []),
        ("a a a", "a a", [" a"], []),
    ],
)
def test_differences_are_marked_and_nothing_is_lost(
    first: str, second: str, only_first: list[str], only_second: list[str]
) -> None:
    one, other, compared = mark_differences(first, second)
    assert (text_of(one), text_of(other), compared) == (first, second, True)
    assert (marked(one), marked(other)) == (only_first, only_second)


def test_of_texts_that_are_too_long_all_between_common_ends_is_marked() -> None:
    first = f"begin {'x ' * MOST_WORDS}end"
    one, other, compared = mark_differences(first, "begin y end")
    assert not compared
    assert (text_of(one), text_of(other)) == (first, "begin y end")
    assert [part for part in (*one, *other) if not part[1]] == [
        ("begin ", False), (" end", False), ("begin ", False), (" end", False),
    ]  # fmt: skip


def test_a_long_common_beginning_does_not_count() -> None:
    common = "word " * 100_000
    one, _, compared = mark_differences(f"{common}one", f"{common}two")
    assert compared
    assert marked(one) == ["one"]
