"""Where the final answer of a response is, and where there is none."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.domain.answers import ExtractedAnswer, ExtractionRule, balanced_braces, extract_answer

BOXED, FINAL, ANSWER, NUMBER = ExtractionRule


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"so we get \boxed{5}.", "5"),
        (r"first \boxed{1}, in the end \boxed{2}", "2"),
        (r"$\boxed{\frac{1}{\sqrt{2}}}$", r"\frac{1}{\sqrt{2}}"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}"),
        (r"\boxed{\\{x}}", r"\\{x}"),
        (r"\boxed {7}", "7"),
        (r"\fbox{7}", "7"),
        (r"$\framebox{204}$ minutes", "204"),
        (r"\boxed{x = \fbox{5} + 1}", r"x = \fbox{5} + 1"),
        (r"$\boxed 12$", "12"),
        (r"\(\boxed\frac12\)", r"\frac12"),
        (r"\boxed{$42$}", "42"),
        (r"\boxed{5}. I was asked to use \boxed{}.", "5"),
        (r"\boxed{never closed, but then \boxed{5}", "5"),
        ("\\boxed{a\nb}", "a\nb"),
    ],
)
def test_the_last_box_holds_the_answer(response: str, answer: str) -> None:
    assert extract_answer(response) == ExtractedAnswer(answer, BOXED)


@pytest.mark.parametrize(
    ("response", "answer", "rule"),
    [
        ("The final answer is: $\\frac12$. I hope it is correct.", "\\frac12", FINAL),
        ("Final Answer: 12", "12", FINAL),
        ("The final answer is:\n\n\\[ 42 \\]", "42", FINAL),
        ("So it is 7.\n\n**Final Answer**\n\n\\(x+1\\)", "x+1", FINAL),
        ("## Final answer\n\n$\\frac{1}{2}$ metres", "\\frac{1}{2}", FINAL),
        ("The final answer is therefore 5.", "5", FINAL),
        ("The answer is given by $x^2$.", "x^2", ANSWER),
        ("That is our final answer\nas of page 5", "5", NUMBER),
        ("The answer is 3x + 2.", "3x + 2", ANSWER),
        ("the answer is (1, 2]", "(1, 2]", ANSWER),
        ("The answer is 1. No: the answer is 2.", "2", ANSWER),
        ("The answer is 42 dollars because she sells eggs.", "42", ANSWER),
        ("The answer is $5. She also spent $6.", "$5", ANSWER),
        ("The answer to the question is therefore $x=5$ metres", "x=5", ANSWER),
        ("**Answer:** 42", "42", ANSWER),
        ("**Answer: 42**", "42", ANSWER),
        ("2+2=4\n#### 18", "18", ANSWER),
        ("so there are 3 eggs and 1,234.5 hens", "1,234.5", NUMBER),
        ("it falls to -4", "-4", NUMBER),
        ("that is 5-3", "3", NUMBER),
        ("which makes 3/4", "3/4", NUMBER),
    ],
)
def test_without_a_box_the_surest_other_rule_counts(response: str, answer: str, rule: ExtractionRule) -> None:
    assert extract_answer(response) == ExtractedAnswer(answer, rule)


@pytest.mark.parametrize("response", ["", "  \n", "I do not know.", r"\boxed{}", "The answer is"])
def test_a_response_may_have_no_answer(response: str) -> None:
    assert extract_answer(response) is None


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("response", [r"\boxed{12", r"\boxed{3} no, \boxed{\frac{1}{2}", r"is 5, \boxed{"])
def test_a_box_that_is_never_closed_hides_the_answer(response: str, truncated: bool) -> None:
    assert extract_answer(response, truncated) is None


@pytest.mark.parametrize("response", ["The answer is 12", "The answer is 3.", "there are 12", r"\boxed 12"])
def test_a_truncated_response_may_lack_the_end_of_its_answer(response: str) -> None:
    assert extract_answer(response) is not None
    assert extract_answer(response, truncated=True) is None


def test_an_answer_that_is_complete_before_the_cut_counts() -> None:
    assert extract_answer(r"\boxed{5}. Let us check: 5 is", truncated=True) == ExtractedAnswer("5", BOXED)
    assert extract_answer("The answer is 5.\nQuestion: what", truncated=True) == ExtractedAnswer("5", ANSWER)


JUNK = {
    "opened boxes": "\\boxed{" * 150_000,
    "empty boxes": "\\boxed{}" * 120_000,
    "bare boxes": "\\boxed " * 140_000,
    "braces in a box": "\\boxed{" + "{" * 1_000_000,
    "closing braces": "\\boxed{" + "}" * 1_000_000,
    "backslashes": "\\" * 1_000_000,
    "dollars": "answer is " + "$" * 1_000_000,
    "phrases": "final answer " * 80_000,
    "phrases with spaces": ("answer is" + " " * 50) * 17_000,
    "digits": "1" * 1_000_000,
    "digit groups": "1," * 500_000,
    "spaces": "final" + " " * 1_000_000,
    "line feeds": "answer\n" + "\n" * 1_000_000,
    "asterisks": "answer is" + " *" * 500_000,
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK.keys())
def test_a_megabyte_of_junk_takes_no_longer_than_reading_it(junk: str) -> None:
    start = time.process_time()
    extract_answer(junk)
    extract_answer(junk, truncated=True)
    assert time.process_time() - start < 5.0


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
    assert found == ExtractedAnswer(content, BOXED)
