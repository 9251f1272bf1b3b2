"""The demo's problems: sums and products of digits modulo 10, from easy to hard on a smooth slope.

A problem is an expression over + and *, and its answer the last digit of its value. A solution carries out
one operation per step, in brackets, and boxes the last digit:

    7+3*4+2 mod 10=?   →   7+(3*4)+2=7+2+2        (blank line)        (7+2)+2=9+2        …

There are many right ways, because an addition is right wherever no multiplication stands beside it. A
careless step adds beside a multiplication. That is wrong reasoning, and by luck it often reaches the right
digit. So a verdict says less than the steps do.

The text of a question decides whether it is a training or a held-out problem.
"""

import itertools
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from hsstar.data.writing import write_rows
from hsstar.domain.errors import BadInputError
from hsstar.domain.seeds import derived_seed
from hsstar.domain.steps import STEP_SEPARATOR

MODULUS = 10
OPERANDS = range(2, 10)
_HELD_OUT_SHARE = 0.2
_MOST_REPEATED = 300
_MOST_PROBLEMS = 8_000  # of a side; drawing shows that the smallest level holds no more


@dataclass(frozen=True, slots=True)
class DemoLevel:
    """A level of the slope: longer expressions with more multiplications are harder."""

    operators: int
    multiplications: int


SLOPE: tuple[DemoLevel, ...] = tuple(
    DemoLevel(operators, multiplications) for operators in (4, 5, 6, 7) for multiplications in (2, 3)
)
"""The levels; each has the same share of the problems."""


@dataclass(frozen=True, slots=True)
class ModularExpression:
    """Digits with an operator between every two neighbours."""

    operands: tuple[int, ...]
    operators: tuple[str, ...]

    def __str__(self) -> str:
        pairs = zip(self.operators, self.operands[1:], strict=True)
        return str(self.operands[0]) + "".join(f"{operator}{operand}" for operator, operand in pairs)

    @property
    def value(self) -> int:
        """The last digit of its value."""
        total, product = 0, self.operands[0]
        for operator, operand in zip(self.operators, self.operands[1:], strict=True):
            if operator == "*":
                product *= operand
            else:
                total, product = total + product, operand
        return (total + product) % MODULUS

    def keeps_value(self, position: int) -> bool:
        """Tell whether the operation at an operator's index may be carried out next."""
        beside = self.operators[max(0, position - 1) : position + 2]
        return self.operators[position] == "*" or "*" not in beside

    def positions(self, *, careful: bool) -> list[int]:
        """Return the indices of the operators that a careful or a careless step chooses from.

        A careful step takes any that keeps the value, a careless one an addition beside a multiplication
        while there is one.
        """
        every = range(len(self.operators))
        kept = [place for place in every if self.keeps_value(place)]
        wrong = [place for place in every if place not in kept]
        return wrong if wrong and not careful else kept

    def operation(self, position: int) -> "ModularExpression":
        """Return the operation at an operator's index as an expression."""
        return ModularExpression(self.operands[position : position + 2], (self.operators[position],))

    def bracketed(self, position: int) -> str:
        """Return the expression with brackets around the operation at an operator's index."""
        before, after = self.operands[:position], self.operands[position + 2 :]
        head = "".join(map("{}{}".format, before, self.operators[:position]))
        tail = "".join(map("{}{}".format, self.operators[position + 1 :], after))
        return f"{head}({self.operation(position)}){tail}"

    def replaced(self, position: int, value: int) -> "ModularExpression":
        """Return the expression with `value` in place of the operation at an operator's index."""
        operands = (*self.operands[:position], value, *self.operands[position + 2 :])
        return ModularExpression(operands, self.operators[:position] + self.operators[position + 1 :])


@dataclass(frozen=True, slots=True)
class DemoProblem:
    """An expression and its level."""

    expression: ModularExpression
    level: DemoLevel

    @property
    def question(self) -> str:
        """The problem's statement."""
        return f"{self.expression} mod {MODULUS}=?"

    @property
    def answer(self) -> int:
        """The last digit of the value."""
        return self.expression.value

    @property
    def held_out(self) -> bool:
        """Whether the problem is for evaluation; only its text decides."""
        return derived_seed(0, "demo held-out", self.question) < _HELD_OUT_SHARE * 2**63


@dataclass(frozen=True, slots=True)
class SolutionStep:
    """One step: the expression with the operation in brackets, and what remains of it or the boxed answer.

    It is `right` if no step up to it was wrong, whatever digit the solution comes to.
    """

    text: str
    rest: ModularExpression  # without operators at the end
    right: bool


def draw_problem(level: DemoLevel, generator: random.Random) -> DemoProblem:
    """Draw a problem of the level."""
    operators = ["*"] * level.multiplications + ["+"] * (level.operators - level.multiplications)
    generator.shuffle(operators)
    operands = generator.choices(OPERANDS, k=level.operators + 1)
    return DemoProblem(ModularExpression(tuple(operands), tuple(operators)), level)


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


def careful_share(problem: DemoProblem) -> float:
    """Return the share of careful steps that M_0 learns from: smaller on harder problems.

    The first digit counts for as much as the level does, so that every level holds problems from nearly
    hopeless to nearly solved.
    """
    level, first = problem.level, problem.expression.operands[0]
    ease = 2.0 - 0.4 * (level.operators - 4) - 0.3 * (level.multiplications - 2)
    return 1 / (1 + math.exp(1.5 * (first - fmean(OPERANDS)) - ease))


def solution_steps(
    expression: ModularExpression, careful: float, generator: random.Random, slip_rate: float = 0.0
) -> list[SolutionStep]:
    """Carry out what an expression holds, each step careful with one probability and a slip with another."""
    steps, right = list[SolutionStep](), True
    while expression.operators:
        position = generator.choice(expression.positions(careful=generator.random() < careful))
        value = expression.operation(position).value
        right = right and expression.keeps_value(position)
        if generator.random() < slip_rate:
            value = (value + generator.randrange(1, MODULUS)) % MODULUS
            right = False
        marked = expression.bracketed(position)
        expression = expression.replaced(position, value)
        text = f"{marked}={expression}" if expression.operators else f"{marked}=\\boxed{{{value}}}"
        steps.append(SolutionStep(text, expression, right))
    return steps


def solution_text(steps: Iterable[SolutionStep]) -> str:
    """Return the response of these steps."""
    return STEP_SEPARATOR.join(step.text for step in steps)


def write_problems(path: Path, problems: Iterable[DemoProblem]) -> None:
    """Write JSON Lines in the layout of GSM8K: `question` and an `answer` that ends with `#### 5`."""
    rows = (
        {
            "question": problem.question,
            "answer": f"{problem.expression}={problem.answer} modulo {MODULUS}\n#### {problem.answer}",
        }
        for problem in problems
    )
    write_rows(path, rows)
