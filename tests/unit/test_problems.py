"""What a row has to hold, in each format of problems and of imported samples."""

from typing import Any

import pytest

from hsstar.data.formats import detect_format, group_samples, read_problem, read_samples
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem, ProblemFormat

GSM8K, MATH, NUMINA, PUBLISHED = (
    ProblemFormat.GSM8K,
    ProblemFormat.MATH,
    ProblemFormat.NUMINA,
    ProblemFormat.PUBLISHED,
)
ASKED = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": r"It is \boxed{2}."}]


@pytest.mark.parametrize(
    ("problem_format", "row", "reference"),
    [
        (GSM8K, {"question": "q", "answer": "2*9=18\n#### 18"}, "18"),
        (GSM8K, {"question": "q", "answer": "#### 1,450,000"}, "1450000"),
        (GSM8K, {"question": "q", "answer": "#### $-1,000 "}, "-1000"),
        (MATH, {"problem": "q", "solution": r"\boxed{1} then $\boxed{\frac12}$"}, r"\frac12"),
        (MATH, {"problem": "q", "solution": r"\boxed{1}", "answer": "x+1"}, "x+1"),
        (MATH, {"problem": "q", "solution": "a proof"}, ""),
        (MATH, {"question": "q", "answer": "$10-4 n$"}, "10-4 n"),
        (MATH, {"question": "q", "answer": 27.0}, "27"),
        (MATH, {"question": "q", "answer": 0.5}, "0.5"),
        (MATH, {"question": "q", "final_answer": ["$5$", "-2"], "solution": ["s"]}, "5, -2"),
        (MATH, {"problem": "q", "answer": None}, ""),
        (NUMINA, {"problem": "q", "solution": r"so \boxed{3}", "source": "amc"}, "3"),
        (NUMINA, {"problem": "q", "solution": "s", "ref_answer": "4"}, "4"),
        (NUMINA, {"problem": "q", "solution": "s", "answer": "proof", "source": "imo"}, ""),
        (NUMINA, {"messages": ASKED}, "2"),
        (PUBLISHED, {"query": "q", "ref_ans": "7", "resp": "r"}, "7"),
    ],
)
def test_each_format_has_its_place_for_the_reference(
    problem_format: ProblemFormat, row: dict[str, Any], reference: str
) -> None:
    assert read_problem(row, problem_format).reference == reference
    assert read_problem(row, ProblemFormat.AUTO).reference == reference or problem_format is GSM8K


@pytest.mark.parametrize(
    ("problem_format", "row", "problem"),
    [
        (
            MATH,
            {"problem": " What is $1+1$? ", "solution": "s", "level": "Level 3", "type": "Algebra", "idx": 7},
            Problem("What is $1+1$?", "", solution="s", subject="Algebra", level="3", source_id="7"),
        ),
        (
            MATH,
            {
                "question": "q",
                "answer": "5",
                "level": 2,
                "subfield": "n",
                "id": 3,
                "unique_id": "u",
                "type": "",
            },
            Problem("q", "5", subject="n", level="2", source_id="u"),
        ),
        (
            MATH,
            {
                "question": "q",
                "final_answer": "5",
                "subject": "s",
                "data_topic": "t",
                "question_number": "4.1",
            },
            Problem("q", "5", subject="s", source_id="4.1"),
        ),
        (MATH, {"question": "q", "ref_ans": "5", "data_topic": "t"}, Problem("q", "5", subject="t")),
        (MATH, {"question": "q", "answer": "5", "solution": ["s", 1], "id": 1.5}, Problem("q", "5")),
        (
            MATH,
            {"question": "q", "answer": "5", "solution": ["a", "b"]},
            Problem("q", "5", solution="a\n\nb"),
        ),
        (
            GSM8K,
            {"question": "q", "answer": "w\n#### 1,000", "id": "g/1"},
            Problem("q", "1000", solution="w\n#### 1,000", source_id="g/1"),
        ),
        (
            NUMINA,
            {"messages": ASKED, "problem_type": "Algebra", "source": "amc", "answer": "notfound", "id": 1},
            Problem("1+1?", "2", solution=r"It is \boxed{2}.", subject="Algebra", source_id="1"),
        ),
        (
            NUMINA,
            {"problem": "q", "messages": ASKED, "solution": "s", "source": "amc", "ref_answer": "5"},
            Problem("q", "5", solution="s", subject="amc"),
        ),
        (PUBLISHED, {"query": " q", "answer": "5", "idx": 0}, Problem("q", "5", source_id="0")),
    ],
)
def test_a_problem_keeps_what_its_source_says_about_it(
    problem_format: ProblemFormat, row: dict[str, Any], problem: Problem
) -> None:
    assert read_problem(row, problem_format) == problem


def test_problems_with_equal_statements_are_duplicates() -> None:
    assert Problem("What  is\n1+1?", "2").key == Problem("What is 1+1?", "3").key
    assert Problem("What is 1+1?", "2").key != Problem("What is 1+2?", "2").key


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"question": "q", "answer": "work #### 18"}, GSM8K),
        ({"problem": "q", "solution": "s", "level": 3}, MATH),
        ({"question": "q", "answer": "5"}, MATH),
        ({"question": "q", "final_answer": ["5"]}, MATH),
        ({"problem": "q", "solution": "s", "source": "olympiads"}, NUMINA),
        ({"problem": "q", "solution": "s", "messages": ASKED}, NUMINA),
        ({"query": "q", "ref_ans": "5", "resp": "r", "correct": True}, PUBLISHED),
        ({"problem": "q", "ref_answer": "5"}, NUMINA),
    ],
)
def test_the_format_shows_in_the_first_rows(row: dict[str, Any], expected: ProblemFormat) -> None:
    assert detect_format([row, row]) is expected


def test_one_row_of_another_format_decides() -> None:
    rows: list[dict[str, Any]] = [{"question": "q", "answer": "#### 18"}, {"question": "q", "answer": "18"}]
    assert detect_format(rows) is detect_format(rows[::-1]) is MATH


@pytest.mark.parametrize(
    ("problem_format", "row", "message"),
    [
        (GSM8K, {"question": "q"}, "expected answer, found keys question"),
        (GSM8K, {"answer": "#### 1"}, "expected question or problem, found keys answer"),
        (GSM8K, {"question": "q", "answer": "nothing marked"}, "ends with"),
        (GSM8K, {"question": "q", "answer": 18}, "expected text under answer, found a number"),
        (MATH, {"problem": "q"}, "expected answer, final_answer or solution, found keys problem"),
        (MATH, {"problem": ["q"], "answer": "1"}, "expected text under problem, found a list"),
        (
            MATH,
            {"problem": " ", "answer": "1"},
            "expected a statement under problem or question, found empty",
        ),
        (MATH, {"problem": "q", "answer": {"x": 1}}, "a number under answer, found an object"),
        (MATH, {"problem": "q", "answer": True}, "a number under answer, found a truth value"),
        (NUMINA, {"messages": [{"role": "user", "content": "q"}]}, "a user turn and an assistant turn"),
        (PUBLISHED, {"query": "q"}, "expected query and ref_ans, found keys query"),
        (ProblemFormat.AUTO, {"a": 1, "b": 2}, "found keys a, b"),
        (ProblemFormat.AUTO, {"answer": "5"}, "expected rows with problem/question/query"),
        (ProblemFormat.AUTO, {"problem": "q"}, "expected rows with problem/question/query"),
        (ProblemFormat.AUTO, {"question": "q", "source": "s"}, "expected rows with problem/question/query"),
        (ProblemFormat.AUTO, {}, "found keys none"),
    ],
)
def test_an_unfit_row_is_refused_in_one_line_that_says_why(
    problem_format: ProblemFormat, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError) as refusal:
        read_problem(row, problem_format)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "q", "answer": "5", "responses": ["a", {"response": "b", "correct": True}]},
        {"question": "q", "answer": 5, "responses": ["a", {"resp": "b"}]},
        {"query": "q", "ref_ans": "5", "responses": ["a", "b"]},
    ],
)
def test_imported_samples_come_with_their_problem(row: dict[str, Any]) -> None:
    assert read_samples(row) == ImportedSamples(
        Problem("q", "5"), (ImportedResponse("a"), ImportedResponse("b"))
    )


def test_published_samples_of_one_query_are_put_together_in_order() -> None:
    rows: list[dict[str, Any]] = [
        {"query": "q", "ref_ans": "5", "resp": "a", "finish_reason": "length", "cumulative_logprob": -3.5},
        {"query": "other", "ref_ans": "6", "resp": "c"},
        {"query": "q", "ref_ans": "5", "resp": "b", "finish_reason": 1, "cumulative_logprob": "low"},
    ]
    assert list(group_samples(map(read_samples, rows))) == [
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a", "length", -3.5), ImportedResponse("b"))),
        ImportedSamples(Problem("other", "6"), (ImportedResponse("c"),)),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": "q", "answer": "5"}, "expected a list under responses, found keys answer, problem"),
        ({"problem": "q", "answer": "5", "responses": [1]}, "a response as text or object, found a number"),
        ({"problem": "q", "answer": "5", "responses": [{"text": "r"}]}, "expected response or resp"),
        ({"query": "q", "resp": "r"}, "expected query and ref_ans"),
    ],
)
def test_unfit_samples_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_samples(row)
