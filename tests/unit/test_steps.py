"""Steps of responses lie between blank lines; solutions become steps where their authors have made them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hsstar.data.formats import read_problem
from hsstar.domain.answers import ExtractionRule, extract_answer
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.steps import STEP_SEPARATOR, Obstacle, StepForm, minimum_reward, split_steps, step_form


@pytest.mark.parametrize(
    ("response", "steps"),
    [
        ("one\n\ntwo", ("one", "two")),
        ("one\ngoes on\n\ntwo", ("one\ngoes on", "two")),
        ("one\n\n\n\ntwo", ("one", "two")),
        ("one\n \t\ntwo", ("one", "two")),  # a line of blanks is a blank line
        ("\n\n  one  \n\n", ("one",)),
        ("one step only", ("one step only",)),
        ("", ()),
        (" \n\n \n", ()),
    ],
)
def test_steps_lie_between_blank_lines(response: str, steps: tuple[str, ...]) -> None:
    assert split_steps(response) == steps


@given(st.text(st.sampled_from("ab \n\t"), max_size=40))
def test_splitting_what_was_joined_gives_the_same_steps(response: str) -> None:
    steps = split_steps(response)
    assert split_steps(STEP_SEPARATOR.join(steps)) == steps
    assert all(step == step.strip() != "" for step in steps)


def test_the_weakest_step_decides_and_without_a_step_the_reward_is_nought() -> None:
    assert [minimum_reward(rewards) for rewards in ((0.9, 0.2, 0.7), [1.0], ())] == [0.2, 1.0, 0.0]


def steps_of(solution: str | None, reference: str = "7") -> list[str] | Obstacle | None:
    found = step_form(Problem("what?", reference, solution))
    return found.text.split("\n\n") if found.text is not None else found.obstacle


def test_a_gsm8k_solution_has_a_step_a_line() -> None:
    row = {
        "question": "How many clips?",
        "answer": "She sold 48/2 = <<48/2=24>>24 clips, for $2 each.\n"
        "In all 48+24 = <<48+24=72>>72.\n#### 72",
    }
    assert step_form(read_problem(row, ProblemFormat.GSM8K)) == StepForm(
        "She sold 48/2 = 24 clips, for $2 each.\n\nIn all 48+24 = 72.\n\nThe final answer is \\boxed{72}."
    )


def test_a_math_solution_in_one_paragraph_is_taken_apart_between_sentences() -> None:
    solution = (
        "We have $f(x) = x. Y$ by Fig. 2, i.e. a line.  Thus $x = 3.$ Then \\[y = 4. Z\\] follows. "
        "So \\begin{align*}x &= 3. X\\end{align*}Hence the sum is $\\boxed{7}$."
    )
    assert steps_of(solution) == [
        "We have $f(x) = x. Y$ by Fig. 2, i.e. a line.",
        "Thus $x = 3.$",
        "Then \\[y = 4. Z\\] follows.",
        "So \\begin{align*}x &= 3. X\\end{align*}",
        "Hence the sum is $\\boxed{7}$.",
    ]


def test_paragraphs_are_steps_and_displayed_formulas_belong_to_theirs() -> None:
    solution = "First we add:\n\n$$\n3 + 4\n\n= 7\n$$\n\nwhich is clear.\n\nHence $\\boxed{7}$."
    assert steps_of(solution) == ["First we add:\n$$\n3 + 4\n= 7\n$$\nwhich is clear.", "Hence $\\boxed{7}$."]


def test_lines_are_steps_where_there_is_no_blank_line() -> None:
    assert steps_of("x + 2 = 9\nx = 9 - 2\n= 7\nso \\boxed{7}\nDone, \\boxed{7}.") == [
        "x + 2 = 9",
        "x = 9 - 2\n= 7\nso \\boxed{7}",
        "Done, \\boxed{7}.",
    ]


def test_the_final_answer_ends_the_last_step() -> None:
    assert steps_of("It is $\\boxed{7}$.\n\nThis was easy.") == [
        "It is $\\boxed{7}$.",
        "This was easy.",
        "The final answer is \\boxed{7}.",
    ]
    assert steps_of("We count.\n\nSeven.", "7") == ["We count.", "Seven.", "The final answer is \\boxed{7}."]


@pytest.mark.parametrize(
    ("solution", "reference", "obstacle"),
    [
        (None, "7", Obstacle.NO_SOLUTION),
        (" \n", "7", Obstacle.NO_SOLUTION),
        ("Obviously so.\n\nQuite.", "", Obstacle.NO_ANSWER),
        ("It is $\\boxed{7}$.", "7", Obstacle.ONE_STEP),
        ("Take \\[x = 3\n\nThen $\\boxed{7}$.", "7", Obstacle.UNCLOSED),
        ("Take \\begin{align*} x\n\nThen $\\boxed{7}$.", "7", Obstacle.UNCLOSED),
        ("Draw [asy] draw(a);\n\nThen $\\boxed{7}$.", "7", Obstacle.UNCLOSED),
    ],
)
def test_what_cannot_be_brought_into_steps_says_why(
    solution: str | None, reference: str, obstacle: Obstacle
) -> None:
    assert steps_of(solution, reference) is obstacle


def test_money_is_no_formula() -> None:
    assert steps_of("He pays $5. She pays $2. Together they pay $7.") == [
        "He pays $5.",
        "She pays $2.",
        "Together they pay $7.",
        "The final answer is \\boxed{7}.",
    ]


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
    assert last is not None
    assert last.rule is ExtractionRule.BOXED
    assert step_form(Problem("what?", "7", found.text)).text == found.text or "####" in solution


def test_nothing_but_white_space_is_lost() -> None:
    solution = "One. Two $x. Y$ three!\nFour (five). Six? \\boxed{7}"
    found = step_form(Problem("what?", "7", solution))
    assert found.text is not None
    assert "".join(found.text.split()) == "".join(solution.split())
