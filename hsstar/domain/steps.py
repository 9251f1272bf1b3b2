"""Steps of a response or solution, and where one ends and the next begins."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from hsstar.domain.answers import ExtractionRule, extract_answer
from hsstar.domain.problems import Problem

STEP_SEPARATOR = "\n\n"
_BLANK_LINES = re.compile(r"\n[ \t]*\n\s*")
_SENTENCE_ENDS = (
    r"(?<![\s.][A-Za-z]\.)(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bcf\.)(?<!\bvs\.)(?<=[.!?])\s+(?=[A-Z$\\(])"
    r"|(?<=[.!?][$)\"”])\s+(?=[A-Z$\\(])"
)
_SENTENCES = re.compile(rf"{_BLANK_LINES.pattern}|{_SENTENCE_ENDS}")
_NUMBERS = re.compile(
    r"^(?=[ \t]*(?:#{1,6}[ \t]*)?(?:\*\*|__)?(?:[Ss]tep[ \t]+\d+\b|\(?\d+[.)][ \t\n]))", re.MULTILINE
)
"""Lines that begin with `1.`, `2)`, `(3)` or `Step 4`, also as a heading or in bold."""

Span = tuple[int, int]
"""Where a step begins and ends in its response, in characters."""


class StepRule(StrEnum):
    """Where a step of a response ends and the next one begins."""

    BLANK_LINE = "blank-line"
    SENTENCE = "sentence"
    NUMBERED = "numbered"
    PYTHON = "python"  # a function of the user says it


def step_spans(response: str, rule: StepRule = StepRule.BLANK_LINE) -> tuple[Span, ...]:
    """Return where each step of a response is, without white space around it and without empty ones.

    A step of `sentence` ends with a sentence or before a blank line, but not within a formula; one of
    `numbered` is a line that begins with its number, and what follows. `python` has no rule of its own.
    """
    if rule is StepRule.PYTHON:
        raise ValueError("the steps of the rule python are those of its function")
    if rule is StepRule.NUMBERED:
        separators = [match.span() for match in _NUMBERS.finditer(response)]
    elif rule is StepRule.SENTENCE:
        protected = [match.span() for match in _PROTECTED.finditer(response)]
        separators = [match.span() for match in _outside(_SENTENCES.finditer(response), protected, response)]
    else:
        separators = [match.span() for match in _BLANK_LINES.finditer(response)]
    spans, begin = [], 0
    for end, following in [*separators, (len(response), len(response))]:
        part = response[begin:end]
        if step := part.strip():
            start = begin + part.index(step)
            spans.append((start, start + len(step)))
        begin = following
    return tuple(spans)


def spans_of_steps(response: str, steps: Iterable[str]) -> tuple[Span, ...]:
    """Return where the steps that a function gives are; raise ValueError for one that does not follow."""
    spans, begin = [], 0
    for number, step in enumerate(steps, 1):
        text = step.strip()
        start = response.find(text, begin)
        if not text or start < 0:
            raise ValueError(
                f"step {number} ({step[:40]!r}) is not a text of the response after the step before"
            )
        begin = start + len(text)
        spans.append((start, begin))
    return tuple(spans)


def steps_at(response: str, spans: Sequence[Span]) -> tuple[str, ...]:
    """Return the texts of the steps of a response."""
    return tuple(response[start:end] for start, end in spans)


def prefixes_at(response: str, spans: Sequence[Span]) -> tuple[str, ...]:
    """Return what of a response stands before its second step, before its third one, and so on.

    A prefix ends where the next step begins: a policy that continues it has written the blank line itself.
    """
    return tuple(response[:start] for start, _ in spans[1:])


def step_prefixes(response: str, rule: StepRule = StepRule.BLANK_LINE) -> tuple[str, ...]:
    """Return the prefixes of a response by a rule that needs no function."""
    return prefixes_at(response, step_spans(response, rule))


def shown_steps(response: str, rule: StepRule, ends: Sequence[int] | None) -> tuple[str, ...]:
    """Return the steps of a response that may be cut; `ends` are those of a function's spans, in turns.

    Without these, steps of a function are shown as those between blank lines.
    """
    if ends is not None:
        return steps_at(response, [*zip(ends[::2], ends[1::2], strict=True)])
    return split_steps(response, StepRule.BLANK_LINE if rule is StepRule.PYTHON else rule)


def split_steps(response: str, rule: StepRule = StepRule.BLANK_LINE) -> tuple[str, ...]:
    """Return the steps of a response by a rule that needs no function."""
    return steps_at(response, step_spans(response, rule))


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
    text = STEP_SEPARATOR.join(steps)
    if not _GSM8K_END.search(solution) and _UNCLOSED.search(_PROTECTED.sub(" ", text)):
        return StepForm(None, Obstacle.UNCLOSED)  # without its blank lines another formula is read
    return StepForm(text)


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
        rf"{_SENTENCE_ENDS}"
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
    parts, begin = [], 0
    for match in _outside(sign.finditer(solution), protected, solution):
        cut = match.end() - len(match[0]) + len(match[0].rstrip())
        parts.append(solution[begin:cut])
        begin = match.end()
    return [*parts, solution[begin:]]


def _outside(matches: Iterable[re.Match[str]], protected: list[Span], text: str) -> Iterator[re.Match[str]]:
    """Yield the matches that do not overlap a protected span; both are in order."""
    spans = iter([*protected, (len(text), len(text))])
    start, end = next(spans)
    for match in matches:
        while end <= match.start() and start < len(text):
            start, end = next(spans)
        if match.end() <= start or match.start() >= end:
            yield match


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
