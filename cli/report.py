"""`hsstar report`: the accuracies of a run's policies, and what its iterations did."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from hsstar.cli.names import RUN
from hsstar.cli.options import Format, formatted

if TYPE_CHECKING:
    from hsstar.insights.iterations import IterationSummary
    from hsstar.store.database import Database


@click.command(epilog="Example:  hsstar report demo --format markdown")
@click.argument("run", type=RUN)
@click.option("--lengths", is_flag=True, help="Print how long responses are instead, in tokens.")
@click.option("--iterations", is_flag=True, help="Print every figure of each iteration instead.")
@formatted
def report(run: str, lengths: bool, iterations: bool, shown_as: Format) -> None:
    """Print the accuracies of RUN: a row per policy M_0, M_1, …, a column per benchmark, and their mean.

    A second table says what each iteration sampled and trained, and lines below it what is wrong; it is
    left out of CSV and JSON, where --iterations has all of it.

    With --lengths: the tokens of its responses to held-out problems and to sampled ones by difficulty, of
    chosen and rejected ones, and by how many nats training made the chosen ones more probable.
    """
    from hsstar.cli.environment import open_database
    from hsstar.cli.views.output import console
    from hsstar.cli.views.results import show_run_table
    from hsstar.insights.evaluation import run_table
    from hsstar.insights.iterations import load_iterations
    from hsstar.insights.models import rounding_warnings

    if lengths and iterations:
        raise click.UsageError("--lengths and --iterations are two reports; ask for one")
    with open_database() as database:
        if lengths:
            _print_lengths(database, run, shown_as)
            return
        summaries = load_iterations(database, run)
        if iterations:
            print_iterations(summaries, f"Run {run}", shown_as)
            return
        table, warnings = run_table(database, run), rounding_warnings(database, run)
    show_run_table(table, f"Run {run}", shown_as)
    if summaries and shown_as in ("table", "markdown"):
        console.print()
        print_iterations(summaries, None, shown_as)
    if shown_as == "table":
        for warning in warnings:
            console.print(warning)


def _print_lengths(database: "Database", run: str, shown_as: Format) -> None:
    from hsstar.cli.views.output import console, show_list
    from hsstar.insights.lengths import load_lengths, pair_warnings
    from hsstar.store.read.progress import PolicyLengths

    def tokens(column: str) -> Callable[[PolicyLengths], str]:
        return lambda row: _number(getattr(row, column), ".1f")

    rows = load_lengths(database, run)
    columns: dict[str, str | Callable[[PolicyLengths], str]] = {
        "": lambda row: f"M_{row.policy}",
        "policy": "model",
        "held out": tokens("held_out"),
        **{name: tokens(name) for name in ("sampled", "inlier", "boundary", "outlier", "chosen", "rejected")},
        "log-probability of the chosen": lambda row: _number(row.chosen_logp_change, "+.2f"),
    }
    show_list(PolicyLengths, rows, shown_as, columns, f"Run {run}: tokens a response")
    for line in pair_warnings(rows) if shown_as == "table" else ():
        console.print(line)


def print_report(database: "Database", run_name: str) -> None:
    """Print labels, budget, pairs, speed, times, accuracy and reward quality of every iteration."""
    from hsstar.insights.iterations import load_iterations

    print_iterations(load_iterations(database, run_name), f"Run {run_name}", "table")


def print_iterations(iterations: "list[IterationSummary]", title: str | None, shown_as: Format) -> None:
    """Print a column per iteration and what is wrong; for programs a row per iteration with all of it."""
    from hsstar.cli.views.output import console, show, show_list
    from hsstar.insights.iterations import IterationSummary

    if shown_as in ("csv", "json"):
        show_list(IterationSummary, iterations, shown_as)
        return
    show(
        ("", *(f"iteration {summary.iteration}" for summary in iterations)),
        [(heading, *(line(summary) for summary in iterations)) for heading, line in _LINES],
        title=title,
        shown_as=shown_as,
    )
    faults = [f"iteration {row.iteration}: {fault}" for row in iterations for fault in row.faults]
    for line in faults if shown_as == "table" else ():
        console.print(line)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


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
    ("  correct", lambda row: _part(row.correct, row.verified)),
    ("  cut at a length limit", lambda row: _part(row.cut, row.drawn)),
    ("    by the context", lambda row: _part(row.cut_by_context, row.drawn)),
    ("  without an answer", lambda row: _part(row.no_answer, row.verified)),
    ("  with a text of their own", lambda row: _number(row.different_texts, ".0%")),
    ("preference pairs", lambda row: str(row.pairs)),
    ("  of different texts", lambda row: str(row.distinct_pairs)),
    ("  problems with a pair", lambda row: str(row.problems_with_pair)),
    ("rows trained, in steps of the optimiser", lambda row: f"{row.rows_trained} / {row.optimiser_steps}"),
    (
        "  share of the training kept, as sampled",
        lambda row: "–" if row.update_kept is None else f"{row.update_kept:.0%} in {row.sampled_as}",
    ),
    ("log-probability of the chosen, change", lambda row: _number(row.chosen_logp_change, "+.2f")),
    ("tokens", lambda row: f"{row.tokens:,}"),
    ("  a response", lambda row: f"{row.tokens / row.drawn:.1f}" if row.drawn else "–"),
    ("tokens per sampling second", lambda row: _number(row.tokens_per_second, ",.0f")),
    ("seconds (wall clock)", lambda row: _duration(row.seconds)),
    ("  sampling (worker seconds)", lambda row: f"{row.seconds_sampling:.1f}"),
    ("  verification", lambda row: f"{row.seconds_verification:.1f}"),
    ("  rewards", lambda row: f"{row.seconds_reward:.1f}"),
    ("  training", lambda row: f"{row.seconds_training:.1f}"),
    ("  evaluation", lambda row: f"{row.seconds_evaluation:.1f}"),
    ("reward model: AUC of the minimum", lambda row: _number(row.reward_quality, ".3f")),
    (
        "held-out accuracy before",
        lambda row: _accuracy(row.heldout_accuracy_before, row.heldout_error_before),
    ),
    ("held-out accuracy after", lambda row: _accuracy(row.heldout_accuracy_after, row.heldout_error_after)),
)
