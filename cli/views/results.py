"""Print the results of evaluations: for people, for papers and for programs."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

from hsstar.cli.options import Format
from hsstar.cli.views.output import console, print_json, show
from hsstar.domain.evaluation import Metrics
from hsstar.insights.evaluation import BenchmarkResult, PolicyComparison, RunTable, macro_average

Named = tuple[str, list[BenchmarkResult]]
"""A policy's name and its results."""


def show_results(policies: Sequence[Named], comparison: PolicyComparison | None, shown_as: Format) -> None:
    """Print the results of one policy, or of two and their comparison."""
    match shown_as:
        case "json":
            print_json(_document(policies, comparison))
        case "csv":
            records = [record for name, results in policies for record in _records(name, results)]
            columns = list(dict.fromkeys(key for record in records for key in record))
            show(columns, [[record.get(column) for column in columns] for record in records], shown_as="csv")
        case _:
            _show_tables(policies, comparison, partial(show, shown_as=shown_as))


Printer = Callable[[Sequence[str], Sequence[Sequence[Any]], str | None], None]

_COLUMNS = (
    "benchmark", "problems", "decoding", "accuracy", "pass@k", "maj@k", "tokens", "truncated", "unreadable",
    "left out",
)  # fmt: skip


def _show_tables(policies: Sequence[Named], comparison: PolicyComparison | None, printer: Printer) -> None:
    for name, results in policies:
        rows = [_row(result) for result in results]
        if len(results) > 1:
            mean = f"{macro_average(results):.3f}"
            rows.append((f"mean of {len(results)}", *("",) * 2, mean, *("",) * 6))
        printer(_COLUMNS, rows, name)
        console.print()
        groups = [
            (result.benchmark, kind, group, figures.problems, with_error(figures))
            for result in results
            for kind, groups_of_kind in (("subject", result.subjects), ("level", result.levels))
            for group, figures in groups_of_kind.items()
        ]
        if groups:
            printer(("benchmark", "by", "", "problems", "accuracy"), groups, None)
            console.print()
        for line in _notes(results):
            console.print(line)
    if comparison is not None:
        console.print()
        _show_comparison([name for name, _ in policies], comparison, printer)


def _row(result: BenchmarkResult) -> tuple[Any, ...]:
    figures = result.figures
    most = max(figures.pass_at, default=None)
    return (
        result.benchmark,
        figures.problems,
        result.decoding.shown if result.decoding else "given responses",
        with_error(figures),
        f"{figures.pass_at[most]:.3f} (k = {most})" if most else "–",
        _three(figures.majority),
        "–" if figures.mean_tokens is None else f"{figures.mean_tokens:.1f}",
        "–" if figures.truncated_share is None else f"{figures.truncated_share:.1%}",
        figures.unreadable,
        figures.left_out,
    )


def with_error(figures: Metrics) -> str:
    """Format accuracy and standard error."""
    return f"{figures.accuracy.mean:.3f} ± {figures.accuracy.standard_error:.3f}"


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _notes(results: Sequence[BenchmarkResult]) -> list[str]:
    notes = []
    for result in results:
        figures = result.figures
        if figures.unreadable:
            notes.append(
                f"{result.benchmark}: {figures.unreadable} reference answers cannot be read; these problems "
                "count as not solved. Over the others the accuracy is " + _three(figures.accuracy_readable)
            )
        if figures.left_out:
            reasons = (
                outcome.exclusion for outcome in result.outcomes if outcome.readable and outcome.exclusion
            )
            notes.append(
                f"{result.benchmark}: {figures.left_out} problems were left out and count as not solved, "
                f"for example: {next(reasons)}"
            )
        if figures.without_verdict:
            notes.append(
                f"{result.benchmark}: {figures.without_verdict} samples were not decided (time or memory) "
                "and count as not correct"
            )
    return notes


def _show_comparison(names: Sequence[str], comparison: PolicyComparison, printer: Printer) -> None:
    rows: list[tuple[Any, ...]] = [
        (
            benchmark,
            part.problems,
            f"{part.difference:+.3f}",
            f"{part.interval.low:+.3f} … {part.interval.high:+.3f}",
            part.only_first,
            part.only_second,
            None if part.p_value is None else f"{part.p_value:.3g}",
        )
        for benchmark, part in comparison.benchmarks.items()
    ]
    if len(rows) > 1:
        interval = f"{comparison.interval.low:+.3f} … {comparison.interval.high:+.3f}"
        rows.append((f"mean of {len(rows)}", "", f"{comparison.difference:+.3f}", interval, "", "", ""))
    columns = (
        "benchmark", "problems", "difference", "95 % interval", "only the first", "only the second",
        "McNemar p",
    )  # fmt: skip
    printer(columns, rows, f"{names[1]} minus {names[0]}")


def _records(name: str, results: Sequence[BenchmarkResult]) -> list[dict[str, Any]]:
    """Flat rows: one per benchmark, then one per subject and level of it, last the mean."""
    records = []
    for result in results:
        parts = [("all", "", result.figures)]
        parts += [("subject", group, figures) for group, figures in result.subjects.items()]
        parts += [("level", group, figures) for group, figures in result.levels.items()]
        records += [
            {"model": name, "benchmark": result.benchmark, "by": by, "group": group} | _flat(figures)
            for by, group, figures in parts
        ]
    mean = {"model": name, "benchmark": "mean", "by": "all", "group": "", "accuracy": macro_average(results)}
    return [*records, mean]


def _flat(figures: Metrics) -> dict[str, Any]:
    values = asdict(figures)
    accuracy, pass_at = values.pop("accuracy"), values.pop("pass_at")
    return {
        "accuracy": accuracy["mean"],
        "standard_error": accuracy["standard_error"],
        **values,
        **{f"pass@{k}": value for k, value in pass_at.items()},
    }


def _document(policies: Sequence[Named], comparison: PolicyComparison | None) -> dict[str, Any]:
    document: dict[str, Any] = {
        "policies": [
            {
                "model": name,
                "mean": macro_average(results),
                "benchmarks": [
                    {
                        "benchmark": result.benchmark,
                        "decoding": result.decoding and asdict(result.decoding),
                        **_flat(result.figures),
                        "subjects": {group: _flat(figures) for group, figures in result.subjects.items()},
                        "levels": {group: _flat(figures) for group, figures in result.levels.items()},
                    }
                    for result in results
                ],
            }
            for name, results in policies
        ]
    }
    return document | ({"comparison": asdict(comparison)} if comparison else {})


def show_run_table(table: RunTable, title: str, shown_as: Format) -> None:
    """Print the policies of a run in rows, benchmarks in columns, and their mean."""
    means = [table.mean(row) for row in range(len(table.rows))]
    if shown_as in ("table", "markdown"):
        columns = ("", "policy", *table.columns, *(("mean",) if table.benchmarks > 1 else ()))
        rows = [
            (
                f"M_{number}",
                name,
                *("–" if cell is None else f"{cell[0]:.3f} ± {cell[1]:.3f}" for cell in cells),
                *((_three(mean),) if table.benchmarks > 1 else ()),
            )
            for (number, name, cells), mean in zip(table.rows, means, strict=True)
        ]
        show(columns, rows, title, shown_as=shown_as)
        return
    records = [
        {"iteration": number, "model": name}
        | {
            key: value
            for column, cell in zip(table.columns, cells, strict=True)
            for key, value in ((column, cell and cell[0]), (f"{column}_standard_error", cell and cell[1]))
        }
        | {"mean": mean}
        for (number, name, cells), mean in zip(table.rows, means, strict=True)
    ]
    show(list(records[0]), [list(record.values()) for record in records], shown_as=shown_as)
