"""Where the final answer of a response is, and where there is none."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.answers import ExtractedAnswer, ExtractionRule, balanced_braces, extract_answer

CASES = [
    json.loads(line) for line in Path(__file__).with_name("extracted_answers.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["response"])
def test_the_surest_rule_finds_the_answer_and_a_cut_response_must_hold_its_whole_answer(
    case: dict[str, Any],
) -> None:
    found = extract_answer(case["response"], case.get("truncated", False))
    answer = case["answer"]
    assert found == (None if answer is None else ExtractedAnswer(answer, ExtractionRule(case["rule"])))


def test_braces_are_balanced_if_each_has_its_partner() -> None:
    balanced = ["", "{}", "{{}{}}", r"\{", r"\}x", r"\\{}"]
    unbalanced = ["{", "}", "}{", "{}}", r"\{}", r"\\{", r"{\}"]
    assert [text for text in balanced + unbalanced if balanced_braces(text)] == balanced


mathematics = st.text(alphabet="{}\\$ab1,. \n()[]", max_size=60)


@given(st.one_of(st.text(), mathematics, mathematics.map(lambda text: "\\boxed{" + text)), st.booleans())
def test_extraction_never_fails_and_finds_only_what_is_there(response: str, truncated: bool) -> None:
    found = extract_answer(response, truncated)
    assert found is None or (found.text.strip() == found.text != "" and found.text in response)


@given(st.text(), st.text(alphabet="{}\\ab1+^", min_size=1, max_size=40), st.text(alphabet="abc .\n"))
def test_a_box_gives_back_what_was_put_into_it(before: str, content: str, after: str) -> None:
    if not balanced_braces(content) or content.endswith("\\") or "box" in before:
        return
    found = extract_answer(f"{before} \\boxed{{{content}}} {after}")
    assert found is not None
    assert found == ExtractedAnswer(content, ExtractionRule.BOXED)
