"""Worked solutions from files, and what brings them into steps."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from hsstar.data.files import ProblemFiles, read_rows
from hsstar.data.rows import naming
from hsstar.data.sample_layouts import hold_samples, read_samples
from hsstar.domain.problems import Problem
from hsstar.domain.steps import Obstacle, step_form

_ROWS_TO_DETECT_SAMPLES = 20


def read_solutions(files: ProblemFiles) -> Iterator[Problem]:
    """Yield the problems of some files with their solutions; errors as in `ProblemFiles`.

    The response of a published sample is its solution.
    """
    for path in files.paths:
        rows = read_rows(path, files.bad)
        first = list(islice(rows, _ROWS_TO_DETECT_SAMPLES))
        if files.mapping or not hold_samples([row for _, row in first]):
            yield from files.read(path, chain(first, rows))
            continue
        for line, row in chain(first, rows):
            with files.bad.left_out(), naming(path, line):
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
