"""What thresholds move, what pre-samples foretell, and what other policies would come to."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hsstar.domain.calibration import BANDS, Calibration
from hsstar.domain.errors import BadInputError, ConflictError, NotFoundError
from hsstar.insights.allocation import calibrate_runs, replay_policies
from hsstar.insights.figures import load_distributions
from hsstar.insights.iterations import IterationSummary, load_iterations
from hsstar.insights.runs import find_run
from hsstar.insights.thresholds import count_thresholds
from hsstar.store.database import Database
from hsstar.store.read.figures import BUCKETS
from hsstar.store.runs import Run
from hsstar.web.charts import Histogram, histogram
from hsstar.web.flow import ORDER
from hsstar.web.parameters import check_names, share_of, whole_of
from hsstar.web.render import database_of, page

POLICIES = ("levels", "uniform", "proportional", "variance", "knapsack", "stop", "pairs")
"""That a page replays; functions of users run from the command alone."""
MOST_SAMPLES = 50_000
"""Of an iteration that a page replays or calibrates; the command knows no limit."""
REPETITIONS = 5
_one_at_a_time = threading.Lock()


def _allocation(request: Request) -> Response:
    check_names(request, ("iteration", "tau_low", "tau_high"))
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    iterations = [row for row in load_iterations(database, run.name) if row.labelled]
    values: dict[str, Any] = {"run": run, "iterations": iterations, "policies": POLICIES, "chosen": None}
    if not iterations:
        return page(request, "allocation.html", **values)
    chosen = _chosen(request, run, iterations)
    values |= {"chosen": chosen} | _thresholds(request, database, run, chosen)
    return page(request, "allocation.html", **values)


def _chosen(request: Request, run: Run, iterations: list[IterationSummary]) -> IterationSummary:
    number = whole_of(request, "iteration")
    matching = [row for row in iterations if number in (None, row.iteration)]
    if not matching:
        raise NotFoundError(f"run {run.name!r} has no iteration {number} with labels")
    return matching[-1]


def _thresholds(request: Request, database: Database, run: Run, chosen: IterationSummary) -> dict[str, Any]:
    counts = count_thresholds(database, run, chosen.iteration)
    difficulty = run.recipe.difficulty
    now = (round(100 * difficulty.tau_low), round(100 * difficulty.tau_high))
    asked = [share_of(request, name) for name in ("tau_low", "tau_high")]
    low, high = (
        default if given is None else round(100 * given)
        for given, default in zip(asked, now, strict=True)
    )  # fmt: skip
    if low >= high:
        raise BadInputError(f"tau_low must be less than tau_high, not {low / 100:g} and {high / 100:g}")
    if counts is None:
        return {"counts": None}
    boundary = counts.problems.at(low, high)["boundary"]
    return {
        "counts": counts,
        "document": json.dumps(asdict(counts)),
        "low": low,
        "high": high,
        "kinds": [
            (kind, of.at(*now), of.at(low, high))
            for kind, of in (("problems", counts.problems), ("pairs", counts.pairs))
        ],
        "share": counts.further / boundary if boundary else None,
        "quality": _quality(database, run, chosen.iteration),
    }


def _quality(database: Database, run: Run, iteration: int) -> Histogram | None:
    figure = load_distributions(database, run, iteration, of_samples=False).get("process_quality")
    if figure is None:
        return None
    labels = ["{:.2f} to {:.2f}".format(*figure.bounds(number)) for number in range(BUCKETS)]
    return histogram(labels, {level: figure.series[level] for level in ORDER if level in figure.series})


def _calibration(request: Request) -> Response:
    check_names(request, ())
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    drawn = sum(row.drawn for row in load_iterations(database, run.name))
    if drawn > MOST_SAMPLES:
        raise BadInputError(_too_large(drawn, f"hsstar calibrate {run.name}"))
    with _alone():
        calibration = calibrate_runs(database, [run.name])
    return page(request, "calibration.html", run=run, calibration=calibration, rows=_grid(calibration))


def _grid(calibration: Calibration) -> list[tuple[str, list[Any]]]:
    """Return a row per count of correct pre-samples, with a cell or None per band of quality."""
    lows = (0.0, *BANDS)
    rows: dict[tuple[int, int], list[Any]] = {}
    for cell in calibration.cells:
        row = rows.setdefault((cell.right, cell.wrong), [None] * len(lows))
        row[0 if cell.low is None else lows.index(cell.low)] = cell
    return [(f"{right} of {right + wrong}", cells) for (right, wrong), cells in rows.items()]


def _replay(request: Request) -> Response:
    check_names(request, ("iteration", "policy"))
    database = database_of(request)
    run = find_run(database, request.path_params["run"])
    names = [*dict.fromkeys(request.query_params.getlist("policy"))] or [*POLICIES]
    for name in names:
        if name not in POLICIES:
            raise BadInputError(f"policy must be one of {', '.join(POLICIES)}, not {name!r}")
    iterations = [row for row in load_iterations(database, run.name) if row.labelled]
    if not iterations:
        raise ConflictError(f"no iteration of {run.name!r} has labels yet")
    chosen = _chosen(request, run, iterations)
    if chosen.drawn > MOST_SAMPLES:
        raise BadInputError(
            _too_large(chosen.drawn, f"hsstar allocate {run.name} --iteration {chosen.iteration} --dry-run")
        )
    with _alone():
        choices = [{"policy": name} for name in names]
        replays = replay_policies(database, run.name, chosen.iteration, choices, REPETITIONS)
    most = max((each.replay.pairs + each.replay.pairs_deviation for each in replays), default=0) or 1
    return page(
        request, "replay.html", run=run, chosen=chosen, replays=replays, most=most, repetitions=REPETITIONS,
    )  # fmt: skip


@contextmanager
def _alone() -> Iterator[None]:
    """Let one computation of seconds run at a time."""
    if not _one_at_a_time.acquire(blocking=False):
        raise ConflictError("another replay or calibration is being computed; ask again in a moment")
    try:
        yield
    finally:
        _one_at_a_time.release()


def _too_large(samples: int, command: str) -> str:
    return f"{samples:,} samples are more than a page computes ({MOST_SAMPLES:,}); run: {command}"


ROUTES = [
    Route("/runs/{run}/allocation", _allocation, name="allocation"),
    Route("/runs/{run}/allocation/calibration", _calibration, name="calibration"),
    Route("/runs/{run}/allocation/replay", _replay, name="replay"),
]
