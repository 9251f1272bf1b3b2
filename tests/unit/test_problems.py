"""What a row has to hold, in each format of problems and of imported samples (tables in problems.json)."""

from typing import Any

import pytest

from hsstar.data.formats import Row, detect_format, group_samples, read_problem, read_samples
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import ImportedResponse, ImportedSamples, Problem, ProblemFormat
from tests.unit.tables import tables

TABLES = tables("problems")


@pytest.mark.parametrize(("problem_format", "row", "problem"), TABLES["read"])
def test_a_problem_keeps_what_its_row_says_in_the_places_of_its_format(
    problem_format: str, row: Row, problem: dict[str, Any]
) -> None:
    expected = Problem(**problem)
    assert read_problem(row, ProblemFormat(problem_format)) == expected
    assert read_problem(row, ProblemFormat.AUTO) == expected


def test_a_format_that_is_told_need_not_show() -> None:
    row = {"question": "q", "ref_ans": "5", "data_topic": "t"}
    assert read_problem(row, ProblemFormat.MATH) == Problem("q", "5", subject="t")


def test_problems_with_equal_statements_are_duplicates() -> None:
    assert Problem("What  is\n1+1?", "2").key == Problem("What is 1+1?", "3").key
    assert Problem("What is 1+1?", "2").key != Problem("What is 1+2?", "2").key


def test_the_format_shows_in_the_first_rows() -> None:
    assert [[row, detect_format([row, row])] for row, _ in TABLES["detected"]] == TABLES["detected"]


def test_one_row_of_another_format_decides() -> None:
    rows = [{"question": "q", "answer": "#### 18"}, {"question": "q", "answer": "18"}]
    assert detect_format(rows) is detect_format(rows[::-1]) is ProblemFormat.MATH


@pytest.mark.parametrize(("problem_format", "row", "message"), TABLES["unfit"])
def test_an_unfit_row_is_refused_in_one_line_that_says_why(
    problem_format: str, row: Row, message: str
) -> None:
    with pytest.raises(BadInputError) as refusal:
        read_problem(row, ProblemFormat(problem_format))
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("row", TABLES["samples"])
def test_imported_samples_come_with_their_problem(row: Row) -> None:
    responses = (ImportedResponse("a"), ImportedResponse("b"))
    assert read_samples(row) == ImportedSamples(Problem("q", "5"), responses)


def test_published_samples_of_one_query_are_put_together_in_order() -> None:
    rows: list[Row] = [
        {"query": "q", "ref_ans": "5", "resp": "a", "finish_reason": "length", "cumulative_logprob": -3.5},
        {"query": "other", "ref_ans": "6", "resp": "c"},
        {"query": "q", "ref_ans": "5", "resp": "b", "finish_reason": 1, "cumulative_logprob": "low"},
    ]
    assert list(group_samples(map(read_samples, rows))) == [
        ImportedSamples(Problem("q", "5"), (ImportedResponse("a", "length", -3.5), ImportedResponse("b"))),
        ImportedSamples(Problem("other", "6"), (ImportedResponse("c"),)),
    ]


@pytest.mark.parametrize(("row", "message"), TABLES["unfit samples"])
def test_unfit_samples_are_refused(row: Row, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        read_samples(row)
