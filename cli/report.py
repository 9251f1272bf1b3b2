"""The tables of a run: a column per iteration with what it did, and `hsstar report` with accuracies."""

from collections.abc import Callable
from typing import Any

import click

from hsstar.cli.options import Format, formatted
from hsstar.cli.views.output import duration, show
from hsstar.domain.errors import NotFoundError
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import progress


@click.command(epilog="Example:  hsstar report demo --format markdown")
@click.argument("run")
@formatted
def report(run: str, shown_as: Format) -> None:
    """Print the accuracies of RUN: a row per policy M_0, M_1, …, a column per benchmark, and their mean."""
    from hsstar.cli.environment import open_database
    from hsstar.cli.views.results import show_run_table
    from hsstar.insights.evaluation import run_table

    with open_database() as database:
        with database.begin() as connection:
            found = runs.find_run(connection, run)
        table = run_table(database, found)
    if not table.columns:
        raise NotFoundError(
            f"run {run!r} has no evaluation; its recipe names neither evaluation.dataset nor benchmarks, "
            "or it has not begun"
        )
    show_run_table(table, f"Run {run}", shown_as)


Figures = dict[str, Any]
"""One row of the view `iteration_statistics`, with `reward_quality` added."""


def print_report(database: Database, run_name: str) -> None:
    """Prints labels, budget, pairs, speed, times, accuracy and reward quality of every iteration."""
    with database.begin() as connection:
        quality = progress.reward_quality(connection, runs.find_run(connection, run_name).id)
        found = progress.iteration_statistics(connection, run_name)
    figures = [row | {"reward_quality": quality.get(row["iteration"])} for row in found]
    show(
        ("", *(f"iteration {row['iteration']}" for row in figures)),
        [(heading, *(line(row) for row in figures)) for heading, line in _LINES],
        title=f"Run {run_name}",
    )


def _share(level: str) -> Callable[[Figures], str]:
    def show(row: Figures) -> str:
        labelled = row["inlier"] + row["boundary"] + row["outlier"]
        return f"{row[level]} ({row[level] / labelled:.0%})" if labelled else "–"

    return show


def _seconds(stage: str) -> Callable[[Figures], str]:
    return lambda row: f"{row[f'seconds_{stage}']:.1f}"


def _accuracy(when: str) -> Callable[[Figures], str]:
    def show(row: Figures) -> str:
        mean = row[f"heldout_accuracy_{when}"]
        return "–" if mean is None else f"{mean:.3f} ± {row[f'heldout_error_{when}']:.3f}"

    return show


def _tokens_per_second(row: Figures) -> str:
    seconds = float(row["seconds_sampling"])
    return f"{float(row['tokens']) / seconds:,.0f}" if seconds else "–"


def _reward_quality(row: Figures) -> str:
    return "–" if row["reward_quality"] is None else f"{row['reward_quality']:.3f}"


_LINES: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("problems", lambda row: str(row["problems"])),
    ("  inlier", _share("inlier")),
    ("  boundary", _share("boundary")),
    ("  outlier", _share("outlier")),
    ("samples, of a budget of", lambda row: f"{row['drawn']} / {row['budget']}"),
    ("  pre-sampling", lambda row: str(row["drawn_pre"])),
    ("  re-sampling", lambda row: str(row["drawn_re"])),
    ("preference pairs", lambda row: str(row["pairs"])),
    ("tokens", lambda row: f"{row['tokens']:,}"),
    ("tokens per sampling second", _tokens_per_second),
    ("seconds (wall clock)", lambda row: duration(row["seconds"])),
    ("  sampling (worker seconds)", _seconds("sampling")),
    ("  verification", _seconds("verification")),
    ("  rewards", _seconds("reward")),
    ("  training", _seconds("training")),
    ("  evaluation", _seconds("evaluation")),
    ("reward model: AUC of the minimum", _reward_quality),
    ("held-out accuracy before", _accuracy("before")),
    ("held-out accuracy after", _accuracy("after")),
)
