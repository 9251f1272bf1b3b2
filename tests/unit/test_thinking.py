"""Thinking counts in no answer and no step, whatever its marks are and wherever its block begins."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.answers import extract_answer
from hsstar.domain.answers.thinking import (
    AUTO,
    NONE,
    Thinking,
    begun_by,
    marks_of,
    reply_of,
    without_thinking,
)
from hsstar.domain.errors import BadInputError

USUAL, BY_PROMPT = "<think>,</think>", "<think>,</think>,prompt"


@pytest.mark.parametrize(
    ("setting", "response", "reply"),
    [
        (AUTO, "<think>a</think>b", "b"),
        (AUTO, "x<reasoning>a</reasoning>y<THINK>c</THINK>z", "xyz"),
        (AUTO, "a</think>b", "b"),
        (AUTO, "b<think>a", "b"),
        (AUTO, "I think so", "I think so"),
        (AUTO, "<plan>a</plan>b", "<plan>a</plan>b"),
        (NONE, "<think>a</think>b", "<think>a</think>b"),
        ("<plan>,</plan>", "<plan>a</plan>b", "b"),
        ("<plan>,</plan>", "<think>a</think>b", "<think>a</think>b"),
        ("<plan>,</plan>", "<PLAN>a</plan>b", "b"),  # an end alone
        (USUAL, "a</think>b<think>c</think>d", "bd"),
        (USUAL, "no mark", "no mark"),
        (BY_PROMPT, "no mark", ""),
        (BY_PROMPT, "a</think>b<think>c", "b"),
        (BY_PROMPT, "<think>a</think>b", "b"),
    ],
)
def test_a_reply_is_what_stands_outside_of_the_blocks(setting: str, response: str, reply: str) -> None:
    assert reply_of(response, setting) == reply


@pytest.mark.parametrize(
    ("setting", "response", "taught"),
    [
        (AUTO, "<think>a</think>\n\nb\n", "b\n"),
        (AUTO, "\n\nb", "\n\nb"),
        (AUTO, "<think>a</think>", ""),
        (NONE, "<think>a</think>b", "<think>a</think>b"),
        (USUAL, "<think>a</think>\nb", "b"),
        (BY_PROMPT, "a</think>\n\nb", "</think>\n\nb"),
        (BY_PROMPT, "a that was cut", ""),
    ],
)
def test_what_is_taught_without_thinking(setting: str, response: str, taught: str) -> None:
    """A block that the prompt begins ends at once, as in the templates that turn thinking off."""
    assert without_thinking(response, setting) == taught


@pytest.mark.parametrize(
    ("prompt", "setting"),
    [
        ("User: 1+1?\n<think>\n", BY_PROMPT),
        ("…[THINK]", "[THINK],[/THINK],prompt"),
        ("<|begin_of_thought|>\n\n", "<|begin_of_thought|>,<|end_of_thought|>,prompt"),
        ("Use <think> tags.\nAssistant: ", None),
        ("<think>\n\n</think>\n\n", None),
        ("", None),
    ],
)
def test_a_prompt_that_ends_with_a_mark_begins_the_block(prompt: str, setting: str | None) -> None:
    assert begun_by(prompt) == setting
    assert setting is None or marks_of(setting) is not None


@pytest.mark.parametrize("setting", ["", "<think>", "<a>,<a>", ",</a>", "<a>, ", "<a>,</a>,x", "automatic"])
def test_what_names_no_two_marks_is_refused(setting: str) -> None:
    with pytest.raises(BadInputError, match="two different marks"):
        marks_of(setting)


@given(st.lists(st.sampled_from(["<t>", "</t>", "x", "\\boxed{1}", "\n\n"])), st.booleans())
def test_blocks_are_those_that_a_plain_reader_finds(parts: list[str], begun: bool) -> None:
    thinks, reply = begun, ""
    for part in parts:
        if part == "<t>":
            thinks = True
        elif part == "</t>":
            reply, thinks = reply if thinks else "", False
        elif not thinks:
            reply += part
    marks = Thinking("<t>", "</t>", begun)
    assert marks.outside("".join(parts)) == reply
    assert marks.is_open("".join(parts)) == thinks


def test_no_answer_comes_from_thinking() -> None:
    response = "<plan>\\boxed{1}</plan> So it is \\boxed{2}."
    answer = extract_answer(reply_of(response, "<plan>,</plan>"))
    assert answer is not None and answer.text == "2"
    assert extract_answer(reply_of("It is \\boxed{1}, wait", BY_PROMPT)) is None
    assert re.search("think", reply_of("<think>1</think>")) is None
