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
    assert len({p.question for p in PROBLEMS}) == 400
    assert Counter(p.level for p in PROBLEMS) == dict.fromkeys(SLOPE, 400 // len(SLOPE))


def test_training_and_held_out_problems_never_meet() -> None:
    held_out = family.distinct_problems(400, 5, held_out=True)
    assert not {p.question for p in PROBLEMS} & {p.question for p in held_out}
    assert not any(p.held_out for p in PROBLEMS)
    assert all(p.held_out for p in held_out)


def test_more_problems_than_the_family_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "SLOPE", (DemoLevel(1, 3),))
    with pytest.raises(BadInputError, match="does not hold 50 different problems"):
        family.distinct_problems(50, 0, held_out=False)


def test_answers_are_those_of_an_independent_calculator() -> None:
    assert all(p.answer == python_value(p.expression) for p in PROBLEMS)
    assert all(
        family.value_of(p.expression, Strategy.CARELESS) == left_to_right(p.expression) for p in PROBLEMS
    )


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


def test_careful_solutions_reach_the_answer_and_every_step_is_right() -> None:
    for problem in PROBLEMS:
        steps = solve(problem, Strategy.CAREFUL)
        assert len(steps) == problem.level.operators
        assert all(step.right for step in steps)
        assert steps[-1].text.endswith(f"\\boxed{{{python_value(problem.expression)}}}")


def test_the_careless_strategy_agrees_exactly_where_precedence_does_not_matter() -> None:
    for problem in PROBLEMS:
        if not precedence_matters(problem.expression):
            assert solve(problem, Strategy.CARELESS) == solve(problem, Strategy.CAREFUL)
    conflicts = [p for p in PROBLEMS if precedence_matters(p.expression)]
    wrong = [p for p in conflicts if not solve(p, Strategy.CARELESS)[-1].right]
    assert len(wrong) > 0.95 * len(conflicts)


def test_a_careless_solution_goes_wrong_at_its_first_step_and_a_slip_at_its_own() -> None:
    problem = DemoProblem(ArithmeticExpression((7, 3, 4), ("+", "*")), DemoLevel(2, 9))
    careless = solve(problem, Strategy.CARELESS)
    assert [step.text for step in careless] == ["7+3=10, so 10*4", "10*4=40, so \\boxed{40}"]
    assert [step.right for step in careless] == [False, False]
    steps = solve(problem, Strategy.CAREFUL, slip_rate=1.0)
    assert not steps[0].right
    assert not steps[0].text.startswith("3*4=12,")


def test_solutions_are_split_into_their_steps_again() -> None:
    for problem in PROBLEMS[:40]:
        steps = solve(problem, Strategy.CAREFUL)
        assert split_steps(family.solution_text(steps)) == tuple(step.text for step in steps)


def test_longer_expressions_are_solved_carefully_less_often_and_need_precedence_more_often() -> None:
    for largest in (9, 15):
        levels = [level for level in SLOPE if level.largest_operand == largest]
        shares = [family.careful_share(level) for level in levels]
        assert shares == sorted(shares, reverse=True)
        conflicts = [
            sum(precedence_matters(p.expression) for p in PROBLEMS if p.level == level) for level in levels
        ]
        assert conflicts[0] < conflicts[-1]
    assert all(
        family.careful_share(DemoLevel(n, 15)) < family.careful_share(DemoLevel(n, 9)) for n in (2, 3, 4, 5)
    )


def test_the_mixture_has_the_share_of_careful_solutions_that_it_promises() -> None:
    generator = random.Random(3)
    for level in SLOPE:
        drawn = Counter(family.draw_strategy(level, generator) for _ in range(2000))
        assert drawn[Strategy.CAREFUL] / 2000 == pytest.approx(family.careful_share(level), abs=0.05)


def test_the_stream_takes_the_levels_in_turn() -> None:
    problems = islice(family.problem_stream(9, held_out=True), 2 * len(SLOPE))
    assert [p.level for p in problems] == [*SLOPE, *SLOPE]


def test_problems_are_written_in_the_layout_of_gsm8k(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    family.write_problems(path, PROBLEMS[:3])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["question"] for line in lines] == [p.question for p in PROBLEMS[:3]]
    assert [line["answer"].rpartition("\n#### ")[2] for line in lines] == [
        str(p.answer) for p in PROBLEMS[:3]
    ]
