"""Text fit for storage, and the name of a text by its content."""

from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.text import content_key, storable

any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
def test_stored_text_is_valid_and_nothing_else_is_changed(text: str) -> None:
    stored = storable(text)
    stored.encode("utf-8")
    assert "\x00" not in stored
    assert len(stored) == len(text)
    assert all(
        kept == given or (kept == "\ufffd" and (given == "\x00" or "\ud800" <= given <= "\udfff"))
        for kept, given in zip(stored, text, strict=True)
    )
    assert storable(stored) == stored


@given(any_text)
def test_every_text_has_a_key(text: str) -> None:
    key = content_key(text)
    assert len(key) == 32
    assert set(key) <= set("0123456789abcdef")


def test_white_space_does_not_make_another_problem() -> None:
    assert content_key(" What is\n 1 + 1? ") == content_key("What is 1 + 1?")
    assert content_key("What is 1 + 1?") != content_key("What is 1+1?")


def test_a_problem_keeps_its_key_in_every_release() -> None:
    assert content_key("What is\n $1 + 1$?") == "ec9717030f96054c6821e7f9a2db44e3"
