"""Training data from files: worked solutions and preference pairs."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hsstar.data.files import read_problems, read_rows
from hsstar.data.rows import naming
from hsstar.data.sample_layouts import is_single_sample, read_samples
from hsstar.domain.errors import BadInputError
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.steps import Obstacle, step_form
from hsstar.domain.text import kind_of


def read_solutions(path: Path, problem_format: ProblemFormat = ProblemFormat.AUTO) -> Iterator[Problem]:
    """Yield the problems of a file with their solutions; errors as in `files.read_problems`.

    The response of a published sample is its solution.
    """
    if not is_single_sample(next(read_rows(path))[1]):
        yield from read_problems(path, problem_format)
        return
    for line, row in read_rows(path):
        with naming(path, line):
            sample = read_samples(row)
        yield replace(sample.problem, solution=sample.responses[0].text)


class StepReport:
    """The solutions in steps, counted; by obstacle the names of the refused problems, else their numbers."""

    def __init__(self) -> None:
        self.written = 0
        self.refused: dict[Obstacle, list[str]] = {}


def in_steps(problems: Iterator[Problem], report: StepReport) -> Iterator[dict[str, Any]]:
    """Yield a row as published with HS-STaR per solution that has steps; fill the report."""
    for number, problem in enumerate(problems, start=1):
        form = step_form(problem)
        name = problem.source_id or str(number)
        if form.obstacle is not None:
            report.refused.setdefault(form.obstacle, []).append(name)
            continue
        report.written += 1
        yield {"query": problem.statement, "resp": form.text, "ref_ans": problem.reference, "id": name}


def read_pairs(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (prompt, chosen, rejected) of a file of published preference pairs; prompts stay unchanged.

    BadInputError as in `files.read_rows`, or if a row is no pair.
    """
    for line, row in read_rows(path):
        for key in ("prompt", "chosen", "rejected"):
            if not isinstance(row.get(key), str):
                value = kind_of(row[key]) if key in row else f"keys {', '.join(sorted(row)) or 'none'}"
                raise BadInputError(f"{path}:{line}: expected text under {key}, found {value}")
        yield row["prompt"], row["chosen"], row["rejected"]
