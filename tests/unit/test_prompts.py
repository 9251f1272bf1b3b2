"""One renderer of prompts, for sampling, training and evaluation."""

import re

import pytest

from hsstar.domain.errors import RecipeError
from hsstar.domain.prompts import TEMPLATES, chat_message, render_prompt

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
