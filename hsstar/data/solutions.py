"""Worked solutions from files, and what brings them into steps."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hsstar.data.files import read_problems, read_rows
from hsstar.data.rows import naming
from hsstar.data.sample_layouts import is_single_sample, read_samples
from hsstar.domain.problems import Problem, ProblemFormat
from hsstar.domain.steps import Obstacle, step_form


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
