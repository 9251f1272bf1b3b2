"""The demo's problem family: deterministic, disjoint, right where it says so, harder up the slope."""

import json
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from hsstar.demo import family
from hsstar.demo.family import SLOPE, ArithmeticExpression, DemoLevel, DemoProblem, Strategy
from hsstar.domain.errors import BadInputError
from hsstar.domain.steps import split_steps

PROBLEMS = family.distinct_problems(400, 5, held_out=False)


def python_value(expression: ArithmeticExpression) -> int:
    """The value by Python's own precedence rules."""
    return int(eval(str(expression)))  # the text holds digits and operators only


def left_to_right(expression: ArithmeticExpression) -> int:
    value = expression.operands[0]
    for operator, operand in zip(expression.operators, expression.operands[1:], strict=True):
        value = int(eval(f"{value}{operator}{operand}"))
    return value


def precedence_matters(expression: ArithmeticExpression) -> bool:
    """Whether a multiplication stands behind an addition or a subtraction."""
    return "*" in "".join(expression.operators).lstrip("*")


def solve(problem: DemoProblem, strategy: Strategy, slip_rate: float = 0.0) -> list[family.SolutionStep]:
    return family.solution_steps(problem, strategy, random.Random(1), slip_rate)


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
    monkeypatch.setattr(family, "SLOPE", (DemoLevel(1, 3),))
    with pytest.raises(BadInputError, match="does not hold 50 different problems"):
        family.distinct_problems(50, 0, held_out=False)


def test_answers_are_those_of_an_independent_calculator() -> None:
    for problem in PROBLEMS:
        assert problem.answer == python_value(problem.expression)
        assert family.value_of(problem.expression, Strategy.CARELESS) == left_to_right(problem.expression)


def test_problems_keep_the_parameters_of_their_level() -> None:
    for problem in PROBLEMS:
        expression, level = problem.expression, problem.level
        assert len(expression.operators) == level.operators
        assert min(expression.operands) >= family.SMALLEST_OPERAND
        assert max(expression.operands) <= level.largest_operand
        assert expression.operators.count("*") in family.MULTIPLICATIONS
        for strategy in Strategy:
            values = list(family.values_on_the_way(expression, strategy))
            assert 0 <= min(values) <= max(values) <= family.LARGEST_VALUE


def test_careful_solutions_reach_the_answer_by_right_steps_that_can_be_split_again() -> None:
    for problem in PROBLEMS:
        steps = solve(problem, Strategy.CAREFUL)
        assert [step.right for step in steps] == [True] * problem.level.operators
        assert steps[-1].text.endswith(f"\\boxed{{{python_value(problem.expression)}}}")
        assert split_steps(family.solution_text(steps)) == tuple(step.text for step in steps)


def test_the_careless_strategy_agrees_exactly_where_precedence_does_not_matter() -> None:
    for problem in PROBLEMS:
        if not precedence_matters(problem.expression):
            assert solve(problem, Strategy.CARELESS) == solve(problem, Strategy.CAREFUL)
    conflicts = [p for p in PROBLEMS if precedence_matters(p.expression)]
    wrong = [p for p in conflicts if not solve(p, Strategy.CARELESS)[-1].right]
    assert len(wrong) > 0.95 * len(conflicts)


def test_a_careless_solution_goes_wrong_at_its_first_step_and_a_slip_at_its_own() -> None:
    problem = DemoProblem(ArithmeticExpression((7, 3, 4), ("+", "*")), DemoLevel(2, 9))
    assert [(step.text, step.right) for step in solve(problem, Strategy.CARELESS)] == [
        ("7+3=10, so 10*4", False),
        ("10*4=40, so \\boxed{40}", False),
    ]
    slip, *_ = solve(problem, Strategy.CAREFUL, slip_rate=1.0)
    assert not slip.right
    assert not slip.text.startswith("3*4=12,")


def test_longer_expressions_are_solved_carefully_less_often_and_need_precedence_more_often() -> None:
    for largest in (9, 15):
        levels = [level for level in SLOPE if level.largest_operand == largest]
        shares = [family.careful_share(level) for level in levels]
        assert shares == sorted(shares, reverse=True)
        conflicts = Counter(p.level for p in PROBLEMS if precedence_matters(p.expression))
        assert conflicts[levels[0]] < conflicts[levels[-1]]
    for operators in (2, 3, 4, 5):
        easy, hard = (family.careful_share(DemoLevel(operators, largest)) for largest in (9, 15))
        assert hard < easy


def test_the_mixture_has_the_share_of_careful_solutions_that_it_promises() -> None:
    generator = random.Random(3)
    for level in SLOPE:
        drawn = Counter(family.draw_strategy(level, generator) for _ in range(2000))
        assert drawn[Strategy.CAREFUL] / 2000 == pytest.approx(family.careful_share(level), abs=0.05)


def test_problems_are_written_in_the_layout_of_gsm8k(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    family.write_problems(path, PROBLEMS[:3])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(line["question"], line["answer"].rpartition("\n#### ")[2]) for line in lines] == [
        (problem.question, str(problem.answer)) for problem in PROBLEMS[:3]
    ]
