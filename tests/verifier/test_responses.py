"""Which answer a response gives and what its words make of it: a table, and near-misses that are made."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.answers import extract_answer
from hsstar.domain.verdict import Verdict
from hsstar.verifier import MathVerifier
from hsstar.verifier.contract import VerificationRequest

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("response_cases.jsonl").read_text("utf-8").splitlines()
]


@pytest.fixture(scope="module")
def verifier() -> Iterator[MathVerifier]:
    with MathVerifier(processes=2, deadline_seconds=10.0) as verifier:
        yield verifier


def is_correct(verifier: MathVerifier, response: str, reference: str, is_answer: bool = False) -> bool:
    [judgement] = verifier.verify([VerificationRequest(response, reference, is_answer=is_answer)])
    return judgement.verdict is Verdict.CORRECT


def test_every_case_has_the_verdict_that_a_person_gives(verifier: MathVerifier) -> None:
    requests = [
        VerificationRequest(
            case.get("response", case.get("answer")), case["reference"], is_answer="answer" in case
        )
        for case in CASES
    ]
    wrong = [
        (case["kind"], request.response, judgement.answer, request.reference, str(judgement.cause))
        for case, request, judgement in zip(CASES, requests, verifier.verify(requests), strict=True)
        if (judgement.verdict is Verdict.CORRECT) != (case["verdict"] == "correct")
    ]
    assert wrong == []


numbers = st.integers(4, 9_999)
short_numbers = st.integers(2, 99)
frames = st.sampled_from(
    [
        "The answer is {}.",
        r"\boxed{{{}}}",
        "<answer>{}</answer>",
        "so it is {}.",
        "{}",
        "**Answer:** {}",
        "#### {}",
    ]
)
words_behind = st.sampled_from(
    """million, thousand, dozen, squared, factorial, thirds, plus 6, minus 1, times 4, divided by 3, or more
    , at most, or less, more than x, below zero, remainder 1, to the power of 3, is wrong, is not right, or 1
    , and a half, choose 2, if x > 0, but not 1, apples or more""".replace("\n   ", "").split(", ")
)
words_before = st.sampled_from(
    """minus, not, at least, at most, more than, less than, up to, twice, half of, square root of
    , no more than, anything except, not equal to""".replace("\n   ", "").split(", ")
)


@given(frames, numbers, words_behind)
def test_a_number_that_words_change_is_not_the_number(
    verifier: MathVerifier, frame: str, number: int, words: str
) -> None:
    assert not is_correct(verifier, frame.format(f"{number} {words}"), str(number))


@given(frames, words_before, numbers)
def test_a_number_with_words_before_it_that_change_it_is_not_the_number(
    verifier: MathVerifier, frame: str, words: str, number: int
) -> None:
    assert not is_correct(verifier, frame.format(f"{words} {number}"), str(number))


joints = st.sampled_from([", ", " and ", " or ", "\n", "\n\n(b) ", "; ", r" \text{ and } "])


@given(st.lists(short_numbers, min_size=2, max_size=5, unique=True), joints)
def test_different_boxes_together_are_all_their_values_and_none_of_them(
    verifier: MathVerifier, values: list[int], joint: str
) -> None:
    response = "We get " + joint.join(rf"$\boxed{{{value}}}$" for value in values)
    assert is_correct(verifier, response, ", ".join(map(str, values)))
    assert not any(is_correct(verifier, response, str(value)) for value in values)
    assert not is_correct(verifier, response, ", ".join(map(str, values[:-1])) + ", 1")


@given(st.sampled_from([r"\boxed{{{}}}", "The answer is {}.", "<answer>{}</answer>", "{}"]), numbers)
def test_what_stands_in_unfinished_thinking_is_no_answer(frame: str, number: int) -> None:
    thought = frame.format(number)
    assert extract_answer(f"<think>{thought}") is None
    assert extract_answer(f"<think>{thought}</think>") is None
    assert extract_answer(f"{thought}</think>") is None
    reply = extract_answer(f"<think>{thought}</think>It is {number + 1}.")
    assert reply is not None
    assert reply.text == str(number + 1)


@given(numbers, st.sampled_from(["个", "元", "米", "개", "円", " metros", " Stunden", " часов", " heures"]))
def test_a_unit_of_another_language_does_not_change_a_number_and_no_other_number_is_it(
    verifier: MathVerifier, number: int, unit: str
) -> None:
    assert is_correct(verifier, f"{number}{unit}", str(number), is_answer=True)
    assert not is_correct(verifier, f"{number}{unit}", str(number + 1), is_answer=True)
