"""What a policy is asked, the steps and the final answer of its response, and which verdict a cause means."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hsstar.data.layouts import read_problem
from hsstar.domain.answers import ExtractedAnswer, ExtractionRule, balanced_braces, extract_answer
from hsstar.domain.errors import RecipeError
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.prompts import TEMPLATES, chat_message, render_prompt
from hsstar.domain.steps import (
    STEP_SEPARATOR,
    Obstacle,
    StepForm,
    StepRule,
    spans_of_steps,
    split_steps,
    step_form,
    step_prefixes,
    step_spans,
)
from hsstar.domain.verdict import LASTING_CAUSES, PASSING_CAUSES, VERDICT_OF_CAUSE, Cause, Judgement, Verdict
from tests.unit.tables import tables

INSTRUCTION = r".*step by step.*blank line.*\\boxed\{\}\."


def test_the_papers_prompt() -> None:
    instruction, rest = render_prompt("qwen25-step-cot", "What is 1 + 1?").split("\n", 1)
    assert re.fullmatch(INSTRUCTION, instruction)
    assert rest == "User:\nWhat is 1 + 1?\n\nAssistant:\n"


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("problem", ["{x}", "{problem}", "\\frac{1}{2}", "{0} {} %s"])
def test_a_problem_is_put_in_as_it_is(template: str, problem: str) -> None:
    before, after = TEMPLATES[template].split("{problem}")
    assert render_prompt(template, problem) == before + problem + after


def test_an_unknown_template_is_named_with_the_known_ones() -> None:
    with pytest.raises(RecipeError, match="template 'cot'; known templates: bare, chat, qwen25-step-cot"):
        render_prompt("cot", "What?")


def test_a_chat_message_is_the_problem_and_what_the_answer_has_to_look_like() -> None:
    problem, instruction = chat_message("What is {x} in \\frac{1}{2}?").split("\n\n")
    assert problem == "What is {x} in \\frac{1}{2}?"
    assert re.fullmatch(INSTRUCTION, instruction)


FILE = Path(__file__).with_name("extracted_answers.jsonl")
CASES = [json.loads(line) for line in FILE.read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["response"])
def test_the_surest_rule_finds_an_answer_if_it_is_there_whole(case: dict[str, Any]) -> None:
    found = extract_answer(case["response"], case.get("truncated", False))
    answer = case["answer"]
    assert found == (None if answer is None else ExtractedAnswer(answer, ExtractionRule(case["rule"])))


def test_braces_are_balanced_if_each_has_its_partner() -> None:
    balanced = ["", "{}", "{{}{}}", r"\{", r"\}x", r"\\{}"]
    unbalanced = ["{", "}", "}{", "{}}", r"\{}", r"\\{", r"{\}"]
    assert [text for text in balanced + unbalanced if balanced_braces(text)] == balanced


mathematics = st.text(alphabet="{}\\$ab1,. \n()[]", max_size=60)


@given(st.one_of(st.text(), mathematics, mathematics.map(lambda text: "\\boxed{" + text)), st.booleans())
@example("\rAA", False)
@example("  AA", False)
def test_extraction_never_fails_and_finds_only_what_is_there(response: str, truncated: bool) -> None:
    found = extract_answer(response, truncated)
    assert found is None or (found.text.strip() == found.text != "" and found.text in response)


@given(st.text(), st.text(alphabet="{}\\ab1+^", min_size=1, max_size=40), st.text(alphabet="abc .\n"))
def test_a_box_gives_back_what_was_put_into_it(before: str, content: str, after: str) -> None:
    if not balanced_braces(content) or content.endswith("\\") or "box" in before:
        return
    found = extract_answer(f"{before} \\boxed{{{content}}} {after}")
    assert found == ExtractedAnswer(content, ExtractionRule.BOXED)


def test_an_answer_that_cannot_be_read_is_wrong_and_a_failed_check_is_no_verdict() -> None:
    wrong = dict.fromkeys((Cause.INCORRECT, Cause.NO_ANSWER, Cause.UNPARSABLE), Verdict.INCORRECT)
    unknown = dict.fromkeys((*PASSING_CAUSES, Cause.BAD_REFERENCE), None)
    assert {Cause.CORRECT: Verdict.CORRECT, **wrong, **unknown} == VERDICT_OF_CAUSE
    assert {cause: Judgement(cause, "42").verdict for cause in Cause} == VERDICT_OF_CAUSE


def test_what_depends_on_the_machine_does_not_last_and_no_answer_needs_no_memory() -> None:
    assert set(Cause) - LASTING_CAUSES == PASSING_CAUSES | {Cause.NO_ANSWER}


TABLES = tables("steps")


def test_steps_lie_between_blank_lines() -> None:
    """A line of blanks is a blank line."""
    assert [[response, [*split_steps(response)]] for response, _ in TABLES["split"]] == TABLES["split"]


@given(st.lists(st.sampled_from(["a", "b c", " ", "\n", "\n\n", "\t"])).map("".join))
def test_a_prefix_holds_the_steps_before_the_one_that_follows_it(response: str) -> None:
    steps, prefixes = split_steps(response), step_prefixes(response)
    assert len(prefixes) == max(0, len(steps) - 1)
    for kept, prefix in enumerate(prefixes, start=1):
        assert split_steps(prefix) == steps[:kept]
        assert response.startswith(prefix + steps[kept])


@given(st.text(st.sampled_from("ab \n\t"), max_size=40))
def test_splitting_what_was_joined_gives_the_same_steps(response: str) -> None:
    steps = split_steps(response)
    assert split_steps(STEP_SEPARATOR.join(steps)) == steps
    assert all(step == step.strip() != "" for step in steps)


@pytest.mark.parametrize("rule", ["sentence", "numbered"])
def test_other_rules_find_the_steps_of_a_table(rule: str) -> None:
    expected = TABLES[rule]
    assert [[response, [*split_steps(response, StepRule(rule))]] for response, _ in expected] == expected


PIECES = ["a", "B c.", " ", "\n", "\n\n", "1. ", "2) ", "Step 3", "$x. Y$", "\\[ z! A \\]", "$", "?"]


@given(st.lists(st.sampled_from(PIECES)).map("".join), st.sampled_from(list(StepRule)[:3]))
def test_steps_of_any_rule_are_parts_that_follow_each_other(response: str, rule: StepRule) -> None:
    spans = step_spans(response, rule)
    assert spans_of_steps(response, split_steps(response, rule)) == spans
    rest = response
    for step in reversed(split_steps(response, rule)):
        assert step == step.strip() != ""
        rest, _, after = rest.rpartition(step)
        assert not after.strip()
    assert not rest.strip()


def test_the_steps_of_a_function_are_texts_of_the_response_in_order() -> None:
    assert spans_of_steps("a b a", ["a", " b ", "a"]) == ((0, 1), (2, 3), (4, 5))
    for steps in (["b", "b"], ["a", ""], ["c"]):
        with pytest.raises(ValueError, match=rf"step {len(steps)} .* is not a text of the response after"):
            spans_of_steps("a b a", steps)
    with pytest.raises(ValueError, match="those of its function"):
        split_steps("a", StepRule.PYTHON)


def test_a_gsm8k_solution_has_a_step_a_line() -> None:
    answer = "She sold 48/2 = <<48/2=24>>24 clips, for $2 each.\nIn all 48+24 = <<48+24=72>>72.\n#### 72"
    problem = read_problem({"question": "How many clips?", "answer": answer}, ProblemFormat.GSM8K)
    assert step_form(problem) == StepForm(
        "She sold 48/2 = 24 clips, for $2 each.\n\nIn all 48+24 = 72.\n\nThe final answer is \\boxed{72}."
    )


def test_a_line_that_ends_in_a_colon_is_one_step_with_the_next() -> None:
    solution = "Let's see:\n\n1. Apples:\n - 3 of his\n - 4 of hers\n\nHence 7.\n#### 7.0"
    steps = [
        "Let's see:\n1. Apples:\n- 3 of his",
        "- 4 of hers",
        "Hence 7.",
        "The final answer is \\boxed{7}.",
    ]
    assert step_form(Problem("what?", "7", solution)) == StepForm("\n\n".join(steps))


@pytest.mark.parametrize(("solution", "steps", "rule"), TABLES["forms"], ids=lambda value: str(value)[:40])
def test_a_solution_becomes_the_steps_of_its_author(solution: str, steps: list[str], rule: str) -> None:
    assert step_form(Problem("what?", "7", solution)) == StepForm("\n\n".join(steps)), rule


@pytest.mark.parametrize(("solution", "reference", "obstacle"), TABLES["obstacles"])
def test_what_has_no_step_form_says_why(solution: str | None, reference: str, obstacle: str) -> None:
    assert step_form(Problem("what?", reference, solution)) == StepForm(None, Obstacle(obstacle))


pieces = st.sampled_from(
    ["We add.", "x = 3", "$a. B$", "\\[c\n\nd\\]", "so it", "\n", "\n\n", " ", "Then $\\boxed{7}$.", "$5",
     "[asy]", "\\begin{cases}", "\\end{cases}", "\\\\[4pt]", "#### 7", "Yes! ", "(A) "]
)  # fmt: skip


@example("$5\\[c\n\nd\\]\\begin{cases}$a. B$\\end{cases}")
@given(st.lists(pieces, max_size=30).map("".join))
def test_every_result_is_steps_with_a_box_at_the_end(solution: str) -> None:
    found = step_form(Problem("what?", "7", solution))
    assert (found.text is None) != (found.obstacle is None)
    if found.text is None:
        return
    steps = split_steps(found.text)
    assert len(steps) > 1
    assert "\n\n".join(steps) == found.text
    last = extract_answer(steps[-1])
    assert last and last.rule is ExtractionRule.BOXED
    assert step_form(Problem("what?", "7", found.text)).text == found.text or "####" in solution


def test_nothing_but_white_space_is_lost() -> None:
    solution = "One. Two $x. Y$ three!\nFour (five). Six? \\boxed{7}"
    found = step_form(Problem("what?", "7", solution))
    assert found.text is not None
    assert "".join(found.text.split()) == "".join(solution.split())
