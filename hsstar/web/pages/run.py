"""One run: where it stands, what its iterations did, and what it is made of."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.domain.errors import BadInputError, NotFoundError
from hsstar.insights.evaluation import RunTable, run_table
from hsstar.insights.figures import (
    Distribution,
    budget_ledger,
    job_counts,
    level_flow,
    load_distributions,
    sides_of_pairs,
    training_curves,
)
from hsstar.insights.iterations import IterationSummary, fault_lines, load_iterations
from hsstar.insights.lengths import drift_warnings, pair_warnings
from hsstar.insights.models import Descendant, find_lineage, rounding_warnings
from hsstar.insights.progress import exclusions, run_progress, waiting_reasons
from hsstar.insights.run_list import find_card
from hsstar.insights.runs import find_run, list_jobs
from hsstar.store.database import Database
from hsstar.store.read.figures import TrainingStep
from hsstar.store.runs import Run
from hsstar.web.charts import Histogram, Plot, histogram, plot, stack
from hsstar.web.flow import ORDER, draw_flow
from hsstar.web.render import database_of, exported_of, page

_JOBS_SHOWN = 12
_COLOURS = 5  # `series-0` and so on in the style sheet
_CURVES = ("loss", "reward_margin", "reward_accuracy", "grad_norm", "tokens_per_second")
_STAGES = ("sampling", "verification", "reward", "training", "evaluation")


def _run(request: Request) -> Response:
    database, run = _found(request)
    values = _values(request, database, run)
    if exported_of(request):  # a file fetches nothing
        values |= _figure_values(database, run, values["chosen"])
    return page(
        request,
        "run.html",
        recipe=_tables(run.recipe.document()),
        lineage=_lineage(database, run),
        benchmarks=_benchmarks(database, run),
        **values,
    )


def _tables(document: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe by name; those of a list have a name of their own behind."""
    lists = [(key, table) for key, value in document.items() if isinstance(value, list) for table in value]
    return document | {f"{key}: {table['name']}": table for key, table in lists}


def _live(request: Request) -> Response:
    database, run = _found(request)
    return page(request, "run_live.html", **_values(request, database, run))


def _found(request: Request) -> tuple[Database, Run]:
    database = database_of(request)
    return database, find_run(database, request.path_params["run"])


def _chosen(request: Request, iterations: list[IterationSummary]) -> IterationSummary | None:
    """Return the iteration that the address names, else the newest that has drawn samples."""
    if (wanted := request.query_params.get("iteration")) is None:
        return next(
            (row for row in reversed(iterations) if row.drawn), iterations[-1] if iterations else None
        )
    if not wanted.isdecimal():
        raise BadInputError(f"iteration must be a whole number, not {wanted!r}")
    named = [row for row in iterations if row.iteration == int(wanted)]
    if not named:
        raise NotFoundError(f"this run has no iteration {wanted}")
    return named[0]


def _values(request: Request, database: Database, run: Run) -> dict[str, Any]:
    progress = run_progress(database, run)
    iterations = load_iterations(database, run.name)
    chosen = _chosen(request, iterations)
    return {
        "run": run,
        "card": find_card(database, run),
        "progress": progress,
        "iterations": [(row, _levels(row), _stages(row)) for row in iterations],
        "stage_labels": {f"series-{number}": stage for number, stage in enumerate(_STAGES)},
        "chosen": chosen,
        "flow": None if chosen is None else draw_flow(level_flow(database, run, chosen.iteration)),
        "warnings": [
            *fault_lines(run, progress.rounds),
            *waiting_reasons(progress.queues),
            *drift_warnings(progress.rounds),
            *rounding_warnings(database, run.name),
            *(f"{problems} problems left out: {reason}" for reason, problems in exclusions(database, run)),
        ],
        "job_counts": job_counts(database, run),
        "failed_jobs": list_jobs(database, run.name, "failed", _JOBS_SHOWN),
        "open_evaluations": [
            row for row in progress.rounds if row.kind not in ("iteration", "source") and not row.done
        ],
        "sources": [row for row in progress.rounds if row.kind == "source"],
    }


def _levels(row: IterationSummary) -> list[Any]:
    return stack([(level, getattr(row, level)) for level in ORDER[:3]])


def _stages(row: IterationSummary) -> list[Any]:
    seconds = [getattr(row, f"seconds_{stage}") for stage in _STAGES]
    return stack([(f"series-{number}", value) for number, value in enumerate(seconds)])


def _lineage(database: Database, run: Run) -> list[Descendant]:
    line = find_lineage(database, run.recipe.policy.model)
    return [
        entry for entry in line if entry.run in (None, run.name) or entry.model == run.recipe.policy.model
    ]


def _benchmarks(database: Database, run: Run) -> RunTable | None:
    try:
        return run_table(database, run.name)
    except NotFoundError:  # it has no evaluation
        return None


# --- what is loaded after the page: it reads every sample of an iteration


def _figures(request: Request) -> Response:
    database, run = _found(request)
    chosen = _chosen(request, load_iterations(database, run.name))
    return page(request, "run_figures.html", run=run, chosen=chosen, **_figure_values(database, run, chosen))


def _figure_values(database: Database, run: Run, chosen: IterationSummary | None) -> dict[str, Any]:
    if chosen is None:
        return {"histograms": {}, "ledger": [], "curves": {}, "pair_warnings": []}
    distributions = load_distributions(database, run, chosen.iteration)
    ledger = budget_ledger(database, run, chosen.iteration)
    return {
        "histograms": {
            name: (_histogram(name, figure), figure.upper) for name, figure in distributions.items()
        },
        "thresholds": [(run.recipe.difficulty.tau_low, "τ_l"), (run.recipe.difficulty.tau_high, "τ_h")],
        "ledger": ledger,
        "curves": _curves(database, run),
        "pair_warnings": pair_warnings([sides_of_pairs(ledger, chosen.iteration)]),
    }


def _histogram(name: str, figure: Distribution) -> Histogram:
    series = figure.series
    if name == "pairs":
        last = max(number for number, count in enumerate(series["pairs"]) if count)
        counts = series["pairs"][: last + 1]
        return histogram([f"{number + 1} pairs" for number in range(last + 1)], {"pairs": counts})
    places = 2 if figure.upper <= 1 else 0
    labels = ["{:.{places}f} to {:.{places}f}".format(*figure.bounds(n), places=places) for n in range(20)]
    if name in ("accuracy", "process_quality"):
        return histogram(labels, {level: series[level] for level in ORDER if level in series})
    none = [0] * len(labels)
    return histogram(
        labels,
        {"correct": series.get("correct", none)},
        {"incorrect": series.get("incorrect", none)},
    )


def _curves(database: Database, run: Run) -> dict[str, Plot]:
    """Return the plots that have points, by name: a line per iteration."""
    steps = training_curves(database, run)
    by_iteration: dict[str, list[TrainingStep]] = {}
    for step in steps:
        by_iteration.setdefault(f"series-{step.iteration % _COLOURS}", []).append(step)
    labels = {series: f"iteration {rows[0].iteration}" for series, rows in by_iteration.items()}
    plots = {
        name: plot({
            series: [(row.step, getattr(row, name)) for row in rows] for series, rows in by_iteration.items()
        }, labels)
        for name in _CURVES
    }  # fmt: skip
    return {name: drawn for name, drawn in plots.items() if drawn is not None}


ROUTES = [
    Route("/runs/{run}", _run, name="run"),
    Route("/runs/{run}/live", _live, name="run_live"),
    Route("/runs/{run}/figures", _figures, name="run_figures"),
]
