"""The demo's problems: arithmetic without parentheses, from easy to hard on a smooth slope.

A problem is an expression over +, - and *. A careful solver multiplies first. A careless one works from left
to right and is wrong if a multiplication follows an addition or a subtraction. A solution writes one
reduction per step and boxes the last value:

    7+3*4=?   →   3*4=12, so 7+12        (blank line)        7+12=19, so \\boxed{19}

The text of a question decides whether it is a training or a held-out problem.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from hsstar.data.files import write_rows
from hsstar.domain.errors import BadInputError
from hsstar.domain.seeds import derived_seed
from hsstar.domain.steps import STEP_SEPARATOR

SMALLEST_OPERAND = 2
"""With 1 or 0 the careless solver would often be right by luck."""
LARGEST_VALUE = 200
"""No intermediate value of either strategy is larger; none is negative."""
MULTIPLICATIONS = (1, 2)
"""Allowed numbers of multiplications in an expression."""
_HELD_OUT_SHARE = 0.2
_OPERAND_DRAWS = 200
_MOST_REPEATED = 300
_MOST_PROBLEMS = 8_000  # of a side; drawing shows that the smallest level holds no more
_OPERATORS = ("+", "-", "*")


@dataclass(frozen=True, slots=True)
class DemoLevel:
    """A level of the slope: longer expressions and larger operands are harder."""

    operators: int
    largest_operand: int


SLOPE: tuple[DemoLevel, ...] = tuple(
    DemoLevel(operators, largest) for operators in (2, 3, 4, 5) for largest in (9, 15)
)
"""The levels; each has the same share of the problems."""


class Strategy(StrEnum):
    """How a solver picks the next operation."""

    CAREFUL = "careful"
    """Multiplications first, then from left to right: always right."""
    CARELESS = "careless"
    """From left to right."""


@dataclass(frozen=True, slots=True)
class ArithmeticExpression:
    """Operands with an operator between every two neighbours."""

    operands: tuple[int, ...]
    operators: tuple[str, ...]

    def __str__(self) -> str:
        pairs = zip(self.operators, self.operands[1:], strict=True)
        return str(self.operands[0]) + "".join(f"{operator}{operand}" for operator, operand in pairs)

    def position(self, strategy: Strategy) -> int:
        """Return the index of the strategy's next operator."""
        if strategy is Strategy.CAREFUL and "*" in self.operators:
            return self.operators.index("*")
        return 0

    def operation(self, position: int) -> "ArithmeticExpression":
        """Return the operation at an operator's index as an expression."""
        return ArithmeticExpression(self.operands[position : position + 2], (self.operators[position],))

    def replaced(self, position: int, value: int) -> "ArithmeticExpression":
        """Return the expression with `value` in place of the operation at an operator's index."""
        operands = (*self.operands[:position], value, *self.operands[position + 2 :])
        return ArithmeticExpression(operands, self.operators[:position] + self.operators[position + 1 :])


@dataclass(frozen=True, slots=True)
class DemoProblem:
    """An expression and its level."""

    expression: ArithmeticExpression
    level: DemoLevel

    @property
    def question(self) -> str:
        """The problem's statement."""
        return f"{self.expression}=?"

    @property
    def answer(self) -> int:
        """The value of the expression."""
        return value_of(self.expression)

    @property
    def held_out(self) -> bool:
        """Whether the problem is for evaluation; only its text decides."""
        return derived_seed(0, "demo held-out", self.question) < _HELD_OUT_SHARE * 2**63


@dataclass(frozen=True, slots=True)
class SolutionStep:
    """One step: operation, result, and the remaining expression or the boxed answer.

    It is `right` if the remaining expression still has the problem's value.
    """

    text: str
    right: bool


def _operation_value(operation: ArithmeticExpression) -> int:
    first, second = operation.operands
    match operation.operators[0]:
        case "+":
            return first + second
        case "-":
            return first - second
        case _:
            return first * second


def values_on_the_way(expression: ArithmeticExpression, strategy: Strategy) -> Iterator[int]:
    """Yield the result of each operation in the strategy's order; the last one is its answer."""
    while expression.operators:
        position = expression.position(strategy)
        value = _operation_value(expression.operation(position))
        yield value
        expression = expression.replaced(position, value)


def value_of(expression: ArithmeticExpression, strategy: Strategy = Strategy.CAREFUL) -> int:
    """Return the answer of a strategy without slips."""
    *_, last = (expression.operands[0], *values_on_the_way(expression, strategy))
    return last


def _draw_operators(count: int, generator: random.Random) -> tuple[str, ...]:
    while True:
        operators = tuple(generator.choices(_OPERATORS, k=count))
        if operators.count("*") in MULTIPLICATIONS:
            return operators


def _within_limits(expression: ArithmeticExpression) -> bool:
    return all(
        0 <= value <= LARGEST_VALUE
        for strategy in Strategy
        for value in values_on_the_way(expression, strategy)
    )


def draw_problem(level: DemoLevel, generator: random.Random) -> DemoProblem:
    """Draw a problem of the level; every intermediate value lies between 0 and `LARGEST_VALUE`."""
    while True:
        operators = _draw_operators(level.operators, generator)
        for _ in range(_OPERAND_DRAWS):
            operands = tuple(
                generator.randint(SMALLEST_OPERAND, level.largest_operand) for _ in range(level.operators + 1)
            )
            expression = ArithmeticExpression(operands, operators)
            if _within_limits(expression):
                return DemoProblem(expression, level)


def problem_stream(seed: int, *, held_out: bool) -> Iterator[DemoProblem]:
    """Yield problems of one side without end, level after level; they may repeat."""
    generator = random.Random(derived_seed(seed, "demo problems", str(held_out)))  # noqa: S311  (no secret)
    for level in itertools.cycle(SLOPE):
        problem = draw_problem(level, generator)
        while problem.held_out != held_out:
            problem = draw_problem(level, generator)
        yield problem


def distinct_problems(count: int, seed: int, *, held_out: bool) -> list[DemoProblem]:
    """Return different problems, evenly over the levels; raise BadInputError if the smallest has too few."""
    quotas = {level: count // len(SLOPE) + (index < count % len(SLOPE)) for index, level in enumerate(SLOPE)}
    distinct: dict[str, DemoProblem] = {}
    repeated = Counter[DemoLevel]()  # draws of a level since its last new problem
    for problem in problem_stream(seed, held_out=held_out):
        if len(distinct) == count or count > _MOST_PROBLEMS or repeated[problem.level] > _MOST_REPEATED:
            break
        if quotas[problem.level] and problem.question not in distinct:
            quotas[problem.level] -= 1
            distinct[problem.question] = problem
            repeated[problem.level] = 0
        elif quotas[problem.level]:
            repeated[problem.level] += 1
    if len(distinct) == count:
        return list(distinct.values())
    raise BadInputError(f"the demo's family does not hold {count} different problems; ask for fewer")


def careful_share(level: DemoLevel) -> float:
    """Return the share of careful solutions that M_0 learns from: smaller on harder problems."""
    large = level.largest_operand > 9
    return 1 / (1 + math.exp(-(1.8 - 1.2 * (level.operators - 2) - 0.8 * large)))


def draw_strategy(level: DemoLevel, generator: random.Random) -> Strategy:
    """Draw the strategy of one solution under the mixture of the level."""
    return Strategy.CAREFUL if generator.random() < careful_share(level) else Strategy.CARELESS


def _slipped(value: int, generator: random.Random) -> int:
    distances = [distance for distance in (-10, -2, -1, 1, 2, 10) if distance > 0 or value + distance >= 0]
    return value + generator.choice(distances)


def solution_steps(
    problem: DemoProblem, strategy: Strategy, generator: random.Random, slip_rate: float = 0.0
) -> list[SolutionStep]:
    """Solve by the strategy; every operation goes wrong with probability `slip_rate`."""
    expression, steps = problem.expression, []
    while expression.operators:
        position = expression.position(strategy)
        operation = expression.operation(position)
        value = _operation_value(operation)
        if generator.random() < slip_rate:
            value = _slipped(value, generator)
        expression = expression.replaced(position, value)
        rest = str(expression) if expression.operators else f"\\boxed{{{value}}}"
        steps.append(SolutionStep(f"{operation}={value}, so {rest}", value_of(expression) == problem.answer))
    return steps


def solution_text(steps: Iterable[SolutionStep]) -> str:
    """Return the response of these steps."""
    return STEP_SEPARATOR.join(step.text for step in steps)


def write_problems(path: Path, problems: Iterable[DemoProblem]) -> None:
    """Write JSON Lines in the layout of GSM8K: `question` and an `answer` that ends with `#### value`."""
    rows = (
        {
            "question": problem.question,
            "answer": f"{problem.expression}={problem.answer}\n#### {problem.answer}",
        }
        for problem in problems
    )
    write_rows(path, rows)
