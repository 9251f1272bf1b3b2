"""The problems of a run as a table, and one of them with its history and all its samples."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict

from rich.text import Text

from hsstar.cli.options import Format
from hsstar.cli.text import visible
from hsstar.cli.views.output import Columns, console, print_json, show, show_list
from hsstar.cli.views.samples import problem_lines, sample_lines
from hsstar.insights.problems import ProblemDetail, ProblemPage
from hsstar.store.read.problems import AllocationStep, ProblemRow

_LONGEST_STATEMENT = 60

_COLUMNS: Columns[ProblemRow] = {
    "problem": "problem_id",
    "statement": lambda row: _short(row.statement),
    "level": "level",
    "φ_a": "accuracy",
    "φ_r": "process_quality",
    "pass rates": lambda row: pass_rates(row),
    "drawn": "drawn",
    "pairs": "pairs",
    "tokens": lambda row: None if row.mean_tokens is None else round(row.mean_tokens),
    "over": "overrated",
    "under": "underrated",
    "causes": lambda row: tuple(cause for cause in row.causes if cause not in ("correct", "incorrect")),
    "left out": "exclusion",
}


def show_problems(page: ProblemPage, title: str, shown_as: Format) -> None:
    """Print a page of problems."""
    show_list(ProblemRow, page.problems, shown_as, _COLUMNS, title)


def pass_rates(row: ProblemRow) -> str | None:
    """Return how often each policy was right, as `M_0 0.25 → M_1 0.75`; None without a sample."""
    rates = (f"M_{t} {rate:.2f}" for t, rate in zip(row.policies, row.pass_rates, strict=True))
    return " → ".join(rates) or None


def show_problem(detail: ProblemDetail, shown_as: Format) -> None:
    """Print one problem: its history for people and papers, and all of it for programs."""
    if shown_as in ("json", "csv"):
        print_json(asdict(detail))
        return
    for line in _detail_lines(detail):
        console.print(line)
    if detail.allocations:
        show(*_allocation_table(detail.allocations), "budget", shown_as=shown_as)
    for sample in detail.samples:
        console.print()
        for line in sample_lines(sample):
            console.print(line)
    if detail.more_samples:
        console.print(f"and more: hsstar samples show {detail.run} --problem {detail.problem.problem_id}")
    console.print()
    console.print(_beside(detail))


def _detail_lines(detail: ProblemDetail) -> Iterator[Text | str]:
    problem = detail.problem
    yield from problem_lines(problem.problem_id, problem.statement, problem.reference)
    named = (problem.subject, problem.source_level, problem.source_id)
    yield "  " + " · ".join(part for part in (f"dataset {problem.dataset}", *named) if part)
    if not problem.reference_readable:
        yield "  the verifier cannot read this reference"
    for measure, row in detail.tables.items():
        parts = [part for part in (row.level, pass_rates(row), row.exclusion) if part]
        if row.pairs:
            parts.append(f"{row.pairs} pairs")
        if row.flips:
            parts.append(f"{row.flips} flips")
        yield Text(visible(f"  {measure}: {' · '.join(parts) or 'no sample yet'}"))


def _allocation_table(steps: Sequence[AllocationStep]) -> tuple[list[str], list[tuple[object, ...]]]:
    rows: list[tuple[object, ...]] = [
        (
            step.iteration,
            "pre-samples" if step.wave is None else f"wave {step.wave}",
            step.samples,
            None if step.wave is None else f"{step.correct_before} right, {step.incorrect_before} wrong",
            None if not step.gains else f"{step.gains[0]:.3g} … {step.gains[-1]:.3g}",
        )
        for step in steps
    ]
    return ["iteration", "", "samples", "known before", "worth each"], rows


def _beside(detail: ProblemDetail) -> str:
    ends = (("previous", detail.before), ("next", detail.after))
    return ", ".join(
        f"{name}: hsstar problems show {detail.run} {other}" for name, other in ends if other is not None
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_STATEMENT else f"{line[: _LONGEST_STATEMENT - 1]}…"
