"""The demo's problem family: deterministic, disjoint, right where it says so, harder up the slope."""

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from hsstar.demo import family
from hsstar.demo.family import SLOPE, DemoLevel, DemoProblem, ModularExpression, SolutionStep
from hsstar.domain.errors import BadInputError
from hsstar.domain.steps import split_steps

PROBLEMS = family.distinct_problems(400, 5, held_out=False)


def python_value(expression: ModularExpression) -> int:
    """The last digit of the value by Python's own precedence rules."""
    return int(eval(str(expression))) % 10  # the text holds digits and operators only


def equations(step: str) -> tuple[str, str]:
    """Both sides of a step: what it works on, and what is left."""
    before, _, rest = step.partition("=")
    return before, rest.removeprefix("\\boxed{").removesuffix("}")


def solve(expression: ModularExpression, careful: float, slip_rate: float = 0.0) -> list[SolutionStep]:
    return family.solution_steps(expression, careful, random.Random(1), slip_rate)


def test_a_seed_gives_the_same_distinct_problems_spread_evenly_over_the_slope() -> None:
    assert family.distinct_problems(400, 5, held_out=False) == PROBLEMS
    assert family.distinct_problems(400, 6, held_out=False) != PROBLEMS
    assert Counter(p.level for p in PROBLEMS) == dict.fromkeys(SLOPE, 400 // len(SLOPE))
    stream = islice(family.problem_stream(9, held_out=True), 2 * len(SLOPE))
    assert [p.level for p in stream] == [*SLOPE, *SLOPE]


def test_training_and_held_out_problems_never_meet() -> None:
    every = [*PROBLEMS, *family.distinct_problems(400, 5, held_out=True)]
    assert [p.held_out for p in every] == [False] * 400 + [True] * 400
    assert len({p.question for p in every}) == 800


def test_more_problems_than_the_family_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "SLOPE", (DemoLevel(1, 1),))
    with pytest.raises(BadInputError, match="does not hold 90 different problems"):
        family.distinct_problems(90, 0, held_out=False)


def test_answers_are_those_of_an_independent_calculator() -> None:
    for problem in PROBLEMS:
        assert problem.answer == python_value(problem.expression)


def test_problems_keep_the_parameters_of_their_level() -> None:
    for problem in PROBLEMS:
        expression, level = problem.expression, problem.level
        assert set(expression.operands) <= set(family.OPERANDS)
        assert Counter(expression.operators) == {
            "*": level.multiplications,
            "+": level.operators - level.multiplications,
        }


def test_careful_solutions_keep_the_value_step_by_step_and_can_be_split_again() -> None:
    for problem in PROBLEMS:
        steps = solve(problem.expression, careful=1)
        assert [step.right for step in steps] == [True] * problem.level.operators
        for step in steps:
            before, rest = equations(step.text)
            assert rest == str(step.rest)
            assert eval(before) % 10 == eval(rest) % 10 == problem.answer
        assert split_steps(family.solution_text(steps)) == tuple(step.text for step in steps)


def test_a_problem_has_many_right_solutions() -> None:
    generator = random.Random(2)
    for problem in PROBLEMS[-40:]:  # some of each level
        drawn = [family.solution_steps(problem.expression, 1, generator) for _ in range(8)]
        assert len({family.solution_text(steps) for steps in drawn}) >= 2
        assert all(steps[-1].right for steps in drawn)


def test_careless_solutions_go_wrong_at_a_step_and_sometimes_reach_the_answer_by_luck() -> None:
    solutions = {problem: solve(problem.expression, careful=0) for problem in PROBLEMS}
    reached = {
        problem: steps
        for problem, steps in solutions.items()
        if equations(steps[-1].text)[1] == str(problem.answer)
    }
    lucky = [steps for steps in reached.values() if not steps[-1].right]
    assert 0.05 < len(lucky) / len(PROBLEMS) < 0.3
    for steps in solutions.values():
        marks = [step.right for step in steps]
        assert marks == sorted(marks, reverse=True)  # what has gone wrong stays wrong
    assert all(steps in reached.values() for steps in solutions.values() if steps[-1].right)


def test_an_operation_beside_a_multiplication_is_wrong_and_so_is_a_slip() -> None:
    expression = ModularExpression((7, 3, 4, 2), ("+", "*", "+"))
    assert [expression.keeps_value(place) for place in range(3)] == [False, True, False]
    assert expression.positions(careful=True) == [1]
    assert expression.positions(careful=False) == [0, 2]
    slip, *_ = solve(expression, careful=1, slip_rate=1)
    assert not slip.right
    before, rest = equations(slip.text)
    assert before == "7+(3*4)+2"
    assert eval(before) % 10 != eval(rest) % 10


def begins_with(first: int, level: DemoLevel) -> DemoProblem:
    """A problem of the level that begins with a digit."""
    operators = ("*",) * level.multiplications + ("+",) * (level.operators - level.multiplications)
    return DemoProblem(ModularExpression((first, *(2,) * level.operators), operators), level)


def test_harder_problems_are_solved_carefully_less_often() -> None:
    def share(operators: int, multiplications: int, first: int) -> float:
        return family.careful_share(begins_with(first, DemoLevel(operators, multiplications)))

    for level in SLOPE:
        by_digit = [share(level.operators, level.multiplications, first) for first in family.OPERANDS]
        assert by_digit == sorted(by_digit, reverse=True)
        assert by_digit[0] > 0.8 > 0.3 > by_digit[-1]
    shares = [share(4, 2, 5), share(4, 3, 5), share(5, 3, 5), share(6, 3, 5), share(7, 3, 5)]
    assert shares == sorted(shares, reverse=True)


def test_steps_are_careful_as_often_as_asked() -> None:
    """Where two of three operations go wrong, the first step tells how it was chosen."""
    expression, generator = ModularExpression((7, 3, 4, 2), ("+", "*", "+")), random.Random(3)
    first = [family.solution_steps(expression, 0.7, generator)[0].right for _ in range(2000)]
    assert sum(first) / 2000 == pytest.approx(0.7, abs=0.04)


def test_problems_are_written_in_the_layout_of_gsm8k(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    family.write_problems(path, PROBLEMS[:3])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["question"], line["answer"].rpartition("\n#### ")[2]) for line in lines] == [
        (problem.question, str(problem.answer)) for problem in PROBLEMS[:3]
    ]
