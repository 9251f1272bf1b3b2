"""Steps of a response or solution, and where one ends and the next begins."""

import re
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.answers import ExtractionRule, extract_answer
from hsstar.domain.problems import Problem

STEP_SEPARATOR = "\n\n"
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")


def split_steps(response: str) -> tuple[str, ...]:
    """Return the steps of a response: its stripped parts between blank lines, without empty ones."""
    return tuple(response[start:end] for start, end in _spans(response))


def step_prefixes(response: str) -> tuple[str, ...]:
    """Return what of a response stands before its second step, before its third one, and so on.

    A prefix ends where the next step begins: a policy that continues it has written the blank line itself.
    """
    return tuple(response[:start] for start, _ in _spans(response)[1:])


def _spans(response: str) -> list[tuple[int, int]]:
    """Return where each step begins and ends."""
    spans, begin = [], 0
    separators = [match.span() for match in _BLANK_LINES.finditer(response)]
    for end, following in [*separators, (len(response), len(response))]:
        part = response[begin:end]
        if step := part.strip():
            start = begin + part.index(step)
            spans.append((start, start + len(step)))
        begin = following
    return spans


def minimum_reward(step_rewards: tuple[float, ...] | list[float]) -> float:
    """Return `S(r)`: the smallest step reward; 0 for a response without a step."""
    return min(step_rewards, default=0.0)


class Obstacle(StrEnum):
    """Why a solution has no step form."""

    NO_SOLUTION = "no solution"
    NO_ANSWER = "no final answer"
    UNCLOSED = "a formula or environment is not closed"
    ONE_STEP = "one step only"


@dataclass(frozen=True, slots=True)
class StepForm:
    """A solution in steps, or the obstacle to it; the other is None."""

    text: str | None
    obstacle: Obstacle | None = None


def step_form(problem: Problem) -> StepForm:
    """Return the solution of a problem in steps; the last one holds the final answer in a box."""
    solution = (problem.solution or "").replace("\r\n", "\n").strip()
    if not solution:
        return StepForm(None, Obstacle.NO_SOLUTION)
    answer = problem.reference or _boxed(solution)
    if not answer:
        return StepForm(None, Obstacle.NO_ANSWER)
    if _GSM8K_END.search(solution):
        steps = _lines_of_gsm8k(solution)
    elif _UNCLOSED.search(_PROTECTED.sub(" ", solution)):
        return StepForm(None, Obstacle.UNCLOSED)
    else:
        steps = _split(solution)
    if steps and _boxed(steps[-1]) is None:
        steps.append(f"The final answer is \\boxed{{{answer}}}.")
    if len(steps) < 2:
        return StepForm(None, Obstacle.ONE_STEP)
    return StepForm(STEP_SEPARATOR.join(steps))


_GSM8K_END = re.compile(r"^####.*$", re.MULTILINE)
_CALCULATOR_NOTE = re.compile(r"<<[^<>]*>>")


def _lines_of_gsm8k(solution: str) -> list[str]:
    """Return the lines; one that ends in a colon introduces the next, and both are one step."""
    steps: list[str] = []
    for line in _CALCULATOR_NOTE.sub("", _GSM8K_END.sub("", solution)).splitlines():
        if steps and steps[-1].endswith(":") and line.strip():
            steps[-1] += f"\n{line.strip()}"
        elif line.strip():
            steps.append(line.strip())
    return steps


# As in `domain/answers.py`, a lone dollar sign is money: signs of a formula touch it.
_PROTECTED = re.compile(
    r"\[asy\].*?\[/asy\]|\\begin\{([^{}]*)\}.*?\\end\{\1\}|\$\$.*?\$\$"
    r"|(?<!\\)\\\[.*?\\\]|(?<!\\)\\\(.*?\\\)"
    r"|(?<!\\)\$(?!\s)(?:[^$\n]|\n(?!\s*\n))+(?<![\s\\])\$(?!\d)",
    re.DOTALL,
)
_UNCLOSED = re.compile(r"\[asy\]|\\begin\{|\\end\{|\$\$|(?<!\\)\\[\[\](]")
_BREAKS = (
    re.compile(r"\n[ \t]*\n\s*"),
    re.compile(r"\n\s*"),
    re.compile(
        r"(?<![\s.][A-Za-z]\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\bvs\.)(?<=[.!?])\s+(?=[A-Z$\\(])"
        r"|(?<=[.!?][$)\"”])\s+(?=[A-Z$\\(])"
        r"|(?<=\\\]|\$\$|.\})\s*(?=[A-Z][a-z])"  # after a displayed formula
    ),
)
"""Signs of a boundary between steps, from the surest to the weakest."""
_CONTINUES = re.compile(r"[a-z]{2,}[\s,]|[=<>+]|\\\[|\$\$|\\begin\{|\[asy\]")
"""The beginning of a part that continues the one before it."""
_INNER_BLANK_LINES = re.compile(r"\n\s*\n")


def _split(solution: str) -> list[str]:
    """Return the steps of a solution with closed formulas, by the first sign that finds several."""
    protected = [match.span() for match in _PROTECTED.finditer(solution)]
    steps: list[str] = []
    for sign in _BREAKS:
        steps = _joined(_parts(solution, sign, protected))
        if len(steps) > 1:
            break
    return steps


def _parts(solution: str, sign: re.Pattern[str], protected: list[tuple[int, int]]) -> list[str]:
    """Return the parts between those occurrences of a sign that are outside protected spans."""
    parts, begin, spans = [], 0, iter([*protected, (len(solution), len(solution))])
    start, end = next(spans)
    for match in sign.finditer(solution):
        while end <= match.start():
            start, end = next(spans)
        if match.end() <= start or match.start() >= end:
            cut = match.end() - len(match[0]) + len(match[0].rstrip())
            parts.append(solution[begin:cut])
            begin = match.end()
    return [*parts, solution[begin:]]


def _joined(parts: list[str]) -> list[str]:
    """Return the parts without inner blank lines; join each continuation to the part before it."""
    steps: list[str] = []
    for part in parts:
        text = _INNER_BLANK_LINES.sub("\n", part).strip()
        if steps and _CONTINUES.match(text):
            steps[-1] += f"\n{text}"
        elif text:
            steps.append(text)
    return steps


def _boxed(text: str) -> str | None:
    answer = extract_answer(text)
    return answer.text if answer and answer.rule is ExtractionRule.BOXED else None
