"""The list of runs: where each stands, how long it will take, and whether it learns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from hsstar.domain.run_quality import find_faults
from hsstar.insights.progress import iteration_share
from hsstar.store import runs
from hsstar.store.database import Database
from hsstar.store.read import overview
from hsstar.store.read.overview import RunFigures, RunSummary
from hsstar.store.runs import Run

Group = Literal["active", "finished", "paused", "failed", "archived", "evaluations"]
"""Where a list of runs shows a run: in one of these."""
_LEAST_SHARE = 0.02
"""The share of an iteration that has to be done before its pace says anything."""


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """An estimate of the time that a run still takes."""

    seconds: float
    basis: str  # in words


@dataclass(frozen=True, slots=True)
class RunCard:
    """A run as the list shows it."""

    run: str
    group: Group
    summary: RunSummary
    figures: RunFigures
    policy: str
    dataset: str
    seed: int
    created: datetime
    forked_from: str | None
    held_reason: str | None
    done_share: float  # of its enqueued iterations, in [0, 1]
    correct_share: float | None  # of the verified samples of its newest iteration
    time_left: TimeLeft | None
    warnings: tuple[str, ...]


def list_cards(database: Database) -> list[RunCard]:
    """Return every run as the list shows it, newest first."""
    with database.begin() as connection:
        stored = runs.list_runs(connection)
        summaries = {row.run: row for row in overview.summarise_runs(connection, everything=True)}
        figures = {row.run: row for row in overview.run_figures(connection)}
    now = datetime.now(UTC)
    return [_card(run, summaries[run.name], figures[run.name], now) for run in reversed(stored)]


def _card(run: Run, summary: RunSummary, figures: RunFigures, now: datetime) -> RunCard:
    recipe = run.recipe
    return RunCard(
        run.name,
        _group(run, summary),
        summary,
        figures,
        recipe.policy.model,
        recipe.problems.dataset,
        recipe.seed,
        run.created_at,
        run.forked_from,
        run.held_reason,
        _done_share(summary, figures),
        figures.correct / figures.verified if figures.verified else None,
        time_left(summary, figures, now),
        tuple(_warnings(run, figures)),
    )


def _group(run: Run, summary: RunSummary) -> Group:
    live = summary.jobs_queued or summary.jobs_running
    if run.held == "archived":
        return "archived"
    if not run.recipe.problems.used:
        return "evaluations"
    if summary.jobs_failed and not live:
        return "failed"
    if run.held is not None:
        return "paused"
    return "finished" if summary.state == "done" else "active"


def _open_share(summary: RunSummary, figures: RunFigures) -> float:
    """Return the share of the open iteration that is done; 0 if it has not begun."""
    return 0.0 if figures.started_at is None or figures.state == "done" else iteration_share(figures)


def _done_share(summary: RunSummary, figures: RunFigures) -> float:
    if not summary.iterations:
        return 1.0 if summary.state == "done" else 0.0
    return min(1.0, (summary.iterations_done + _open_share(summary, figures)) / summary.iterations)


def time_left(summary: RunSummary, figures: RunFigures, now: datetime) -> TimeLeft | None:
    """Estimate the time that is left: of the open iteration by its pace, of later ones by those before.

    None for runs that are held or done, and before there is a pace.
    """
    still = summary.iterations - summary.iterations_done
    if not still or summary.state in ("paused", "cancelled", "archived", "gate", "trained-nothing"):
        return None
    share, mean = _open_share(summary, figures), figures.seconds_per_iteration
    if share < _LEAST_SHARE or figures.started_at is None:
        done = summary.iterations_done
        return None if mean is None else TimeLeft(mean * still, f"mean of {done} iterations")
    elapsed = (now - figures.started_at).total_seconds()
    if (trained := _training_left(figures, now)) is not None:
        later = (mean or elapsed + trained) * (still - 1)
        steps = f"step {figures.training_steps_done:,} of {figures.training_steps:,}"
        return TimeLeft(trained + later, f"pace of the training, {steps}")
    whole = elapsed / share
    later = (mean or whole) * (still - 1)
    return TimeLeft(whole - elapsed + later, f"pace of iteration {figures.number}, {share:.0%} of it done")


def _training_left(figures: RunFigures, now: datetime) -> float | None:
    """Return the seconds that an open training needs by its own pace: that of sampling says nothing of it."""
    done, steps = figures.training_steps_done, figures.training_steps
    if figures.state != "training" or not done or not steps or figures.training_started_at is None:
        return None
    return (now - figures.training_started_at).total_seconds() / done * max(0, steps - done)


def _warnings(run: Run, figures: RunFigures) -> Sequence[str]:
    if figures.number is None:
        return ()
    return find_faults(figures, figures.number, run.objective, run.context(figures.context))


def find_card(database: Database, run: Run) -> RunCard:
    """Return a run as the list shows it."""
    with database.begin() as connection:
        summaries = {row.run: row for row in overview.summarise_runs(connection, everything=True)}
        figures = {row.run: row for row in overview.run_figures(connection)}
    return _card(run, summaries[run.name], figures[run.name], datetime.now(UTC))
