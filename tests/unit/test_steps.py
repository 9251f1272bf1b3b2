"""Steps of responses lie between blank lines; solutions become steps where their authors have made them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.data.formats import read_problem
from hsstar.domain.answers import ExtractionRule, extract_answer
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.steps import (
    STEP_SEPARATOR,
    Obstacle,
    StepForm,
    minimum_reward,
    split_steps,
    step_form,
)
from tests.unit.tables import tables

TABLES = tables("steps")


def test_steps_lie_between_blank_lines() -> None:
    """A line of blanks is a blank line."""
    assert [[response, [*split_steps(response)]] for response, _ in TABLES["split"]] == TABLES["split"]


@given(st.text(st.sampled_from("ab \n\t"), max_size=40))
def test_splitting_what_was_joined_gives_the_same_steps(response: str) -> None:
    steps = split_steps(response)
    assert split_steps(STEP_SEPARATOR.join(steps)) == steps
    assert all(step == step.strip() != "" for step in steps)


def test_the_weakest_step_decides_and_without_a_step_the_reward_is_nought() -> None:
    assert [minimum_reward(rewards) for rewards in ((0.9, 0.2, 0.7), [1.0], ())] == [0.2, 1.0, 0.0]


def test_a_gsm8k_solution_has_a_step_a_line() -> None:
    row = {
        "question": "How many clips?",
        "answer": "She sold 48/2 = <<48/2=24>>24 clips, for $2 each.\n"
        "In all 48+24 = <<48+24=72>>72.\n#### 72",
    }
    assert step_form(read_problem(row, ProblemFormat.GSM8K)) == StepForm(
        "She sold 48/2 = 24 clips, for $2 each.\n\nIn all 48+24 = 72.\n\nThe final answer is \\boxed{72}."
    )


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
