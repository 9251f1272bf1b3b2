"""The tables of a run: a column per iteration with what it did, and `hsstar report` with accuracies."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from hsstar.cli.options import Format, formatted

if TYPE_CHECKING:
    from hsstar.insights.iterations import IterationSummary
    from hsstar.store.database import Database


@click.command(epilog="Example:  hsstar report demo --format markdown")
@click.argument("run")
@formatted
def report(run: str, shown_as: Format) -> None:
    """Print the accuracies of RUN: a row per policy M_0, M_1, …, a column per benchmark, and their mean."""
    from hsstar.cli.environment import open_database
    from hsstar.cli.views.output import console
    from hsstar.cli.views.results import show_run_table
    from hsstar.insights.evaluation import run_table
    from hsstar.insights.models import rounding_warnings

    with open_database() as database:
        table, warnings = run_table(database, run), rounding_warnings(database, run)
    show_run_table(table, f"Run {run}", shown_as)
    if shown_as == "table":
        for warning in warnings:
            console.print(warning)


def print_report(database: "Database", run_name: str) -> None:
    """Print labels, budget, pairs, speed, times, accuracy and reward quality of every iteration."""
    from hsstar.cli.views.output import show
    from hsstar.insights.iterations import load_iterations

    iterations = load_iterations(database, run_name)
    show(
        ("", *(f"iteration {summary.iteration}" for summary in iterations)),
        [(heading, *(line(summary) for summary in iterations)) for heading, line in _LINES],
        title=f"Run {run_name}",
    )


def _part(number: int, whole: int) -> str:
    return f"{number} ({number / whole:.0%})" if whole else "–"


def _accuracy(mean: float | None, error: float | None) -> str:
    return "–" if mean is None else f"{mean:.3f} ± {error:.3f}"


def _duration(seconds: float) -> str:
    from hsstar.cli.views.output import duration

    return duration(seconds)


_LINES: "tuple[tuple[str, Callable[[IterationSummary], str]], ...]" = (
    ("problems", lambda row: str(row.problems)),
    ("  inlier", lambda row: _part(row.inlier, row.labelled)),
    ("  boundary", lambda row: _part(row.boundary, row.labelled)),
    ("  outlier", lambda row: _part(row.outlier, row.labelled)),
    ("samples, of a budget of", lambda row: f"{row.drawn} / {row.budget}"),
    ("  pre-sampling", lambda row: str(row.drawn_pre)),
    ("  re-sampling", lambda row: str(row.drawn_re)),
    ("  correct", lambda row: _part(row.correct, row.drawn)),
    ("  cut at the length limit", lambda row: _part(row.cut, row.drawn)),
    ("  without an answer", lambda row: _part(row.no_answer, row.drawn)),
    (
        "  with a text of their own",
        lambda row: "–" if row.different_texts is None else f"{row.different_texts:.0%}",
    ),
    ("preference pairs", lambda row: str(row.pairs)),
    ("  of different texts", lambda row: str(row.distinct_pairs)),
    ("  problems with a pair", lambda row: str(row.problems_with_pair)),
    (
        "rows trained, in steps of the optimiser",
        lambda row: f"{row.rows_trained} / {row.optimiser_steps}",
    ),
    (
        "  share of the training kept, as sampled",
        lambda row: "–" if row.update_kept is None else f"{row.update_kept:.0%} in {row.sampled_as}",
    ),
    ("tokens", lambda row: f"{row.tokens:,}"),
    (
        "tokens per sampling second",
        lambda row: "–" if row.tokens_per_second is None else f"{row.tokens_per_second:,.0f}",
    ),
    ("seconds (wall clock)", lambda row: _duration(row.seconds)),
    ("  sampling (worker seconds)", lambda row: f"{row.seconds_sampling:.1f}"),
    ("  verification", lambda row: f"{row.seconds_verification:.1f}"),
    ("  rewards", lambda row: f"{row.seconds_reward:.1f}"),
    ("  training", lambda row: f"{row.seconds_training:.1f}"),
    ("  evaluation", lambda row: f"{row.seconds_evaluation:.1f}"),
    (
        "reward model: AUC of the minimum",
        lambda row: "–" if row.reward_quality is None else f"{row.reward_quality:.3f}",
    ),
    (
        "held-out accuracy before",
        lambda row: _accuracy(row.heldout_accuracy_before, row.heldout_error_before),
    ),
    ("held-out accuracy after", lambda row: _accuracy(row.heldout_accuracy_after, row.heldout_error_after)),
)
