"""`hsstar plan`: say what a recipe takes, and whether it fits, before anything runs."""

import sys
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.options import FilePath, Format, formatted

if TYPE_CHECKING:
    from hsstar.plan.arithmetic import SamplePlan
    from hsstar.plan.forecast import Forecast
    from hsstar.plan.plan import Plan
    from hsstar.recipe.recipe import Recipe
    from hsstar.store.database import Database

_UNKNOWN = "not known"
_POSITIVE = click.FloatRange(0, min_open=True)


@click.command(epilog="Example:  hsstar plan configs/hsstar.toml --gpu-memory 80 --tokens-per-sample 600")
@click.argument("recipe", type=FilePath())
@click.option("--iterations", type=click.IntRange(1), default=3, show_default=True)
@click.option("--tokens-per-sample", type=_POSITIVE, help="Mean length of a response.")
@click.option("--pairs-per-sample", type=click.FloatRange(0, 0.5), help="Preference pairs per sample.")
@click.option(
    "--sampling-tokens-per-second",
    "sampling_speed",
    type=_POSITIVE,
    help="Of one worker; prompts not counted.",
)
@click.option(
    "--scoring-tokens-per-second", "scoring_speed", type=_POSITIVE, help="The same of the reward model."
)
@click.option(
    "--training-tokens-per-second",
    "training_speed",
    type=_POSITIVE,
    help="The same of training, both responses.",
)
@click.option("--gpu-memory", type=_POSITIVE, metavar="GB", help="Of one GPU; what is found where left out.")
@click.option(
    "--training-gpus",
    type=click.IntRange(1),
    help="GPUs that share the training evenly (FSDP, ZeRO-3); by default what the environment says.",
)
@formatted
def plan(
    recipe: Path,
    iterations: int,
    gpu_memory: float | None,
    training_gpus: int | None,
    shown_as: Format,
    **stated: float | None,
) -> None:
    """Print samples, tokens, hours and disk of RECIPE, and check that models, data and memory fit.

    Figures that you do not give come from earlier runs of the same policy if a database is up, else they
    are assumed; each names its source. The exit code is 1 if a check FAILs: something surely does not fit.
    """
    from hsstar.cli.environment import open_database
    from hsstar.domain.errors import DatabaseError
    from hsstar.domain.findings import Level
    from hsstar.plan.forecast import UserFigures
    from hsstar.plan.plan import make_plan
    from hsstar.plan.preflight import find_device
    from hsstar.recipe.recipe import load_recipe
    from hsstar.settings import Settings

    loaded, settings = load_recipe(recipe), Settings.from_environment()
    device = find_device(settings, gpu_memory, training_gpus)
    database: Database | DatabaseError
    with ExitStack() as stack:
        try:
            database = stack.enter_context(open_database(settings))
        except DatabaseError as error:
            database = error
        made = make_plan(loaded, iterations, UserFigures(**stated), device, settings.models_dir, database)
    _print(loaded, made, shown_as)
    if any(finding.level is Level.FAIL for finding in made.findings):
        sys.exit(1)


def _print(recipe: "Recipe", plan: "Plan", shown_as: Format) -> None:
    from hsstar.cli.views.output import console, print_json, show

    forecast = plan.forecast
    samples = forecast.samples
    findings = [(finding.name, finding.level.value, finding.text) for finding in plan.findings]
    if shown_as == "json":
        print_json({"run": recipe.name, **asdict(forecast), "findings": plan.findings})
        return
    if shown_as == "csv":
        show(("part", "name", "value", "detail"), _records(plan), shown_as=shown_as)
        return
    tables = partial(show, shown_as=shown_as)
    title = f"{recipe.name}, {samples.iterations} iterations"
    tables(("", "per iteration", "in all"), _sample_rows(samples), title=title)
    console.print()
    tables(("", "response tokens", "hours of one worker"), _work_rows(forecast))
    console.print()
    tables(("disk", ""), _disk_rows(forecast))
    console.print()
    figures = [(name, _figure(figure.value), figure.source) for name, figure in forecast.figures.items()]
    tables(("this rests on", "", ""), figures)
    console.print()
    tables(("check", "", ""), findings)


def _records(plan: "Plan") -> list[tuple[str, str, object, str]]:
    """List the numbers of a plan for programs, one a row, with unrounded values."""
    forecast = plan.forecast
    disk = ("checkpoint_bytes", "intermediate_bytes", "database_bytes")
    return [
        *(("samples", name, value, "") for name, value in asdict(forecast.samples).items()),
        *(("tokens", name, value, "") for name, value in asdict(forecast.tokens).items()),
        *(("hours", name, value, "") for name, value in forecast.hours.items()),
        *(("disk", name, getattr(forecast, name), "") for name in disk),
        *(("figure", name, figure.value, figure.source) for name, figure in forecast.figures.items()),
        *(("check", finding.name, finding.level.value, finding.text) for finding in plan.findings),
    ]


def _sample_rows(samples: "SamplePlan") -> list[tuple[str, str, str]]:
    counts = {"pre-samples": samples.pre_samples, "re-samples, at most": samples.re_samples}
    if samples.of_sources:
        counts["samples of sources, at most"] = samples.of_sources
    rows = [(name, f"{count:,}", f"{count * samples.iterations:,}") for name, count in counts.items()]
    if samples.policies and samples.evaluation_samples is None:
        return [*rows, ("held-out samples", _UNKNOWN, "a held-out dataset is not imported")]
    held_out = f"{samples.evaluation_samples or 0:,} × {samples.policies} policies"
    return [*rows, ("held-out samples", held_out, f"{samples.evaluation:,}")]


def _work_rows(forecast: "Forecast") -> list[tuple[str, str, str]]:
    tokens = forecast.tokens
    counts = {
        "sampling": tokens.sampled,
        "evaluation": tokens.evaluated,
        "scoring": tokens.scored,
        "training": tokens.trained,
        "sources": tokens.of_sources,
    }
    complete = None not in forecast.hours.values()
    together = f"{'' if complete else 'at least '}{forecast.known_hours:,.3g}"
    return [
        *(
            (kind, _large(counts[kind]), _UNKNOWN if spent is None else f"{spent:,.3g}")
            for kind, spent in forecast.hours.items()
        ),
        ("together", "", together if complete or forecast.known_hours else _UNKNOWN),
    ]


def _disk_rows(forecast: "Forecast") -> list[tuple[str, str]]:
    from hsstar.checkpoints.disk_space import bytes_text

    checkpoints = forecast.checkpoint_bytes
    return [
        (
            f"checkpoints of {forecast.samples.iterations} iterations",
            _UNKNOWN if checkpoints is None else bytes_text(checkpoints),
        ),
        ("beside them while one is trained", bytes_text(forecast.intermediate_bytes)),
        ("rows in the database", bytes_text(forecast.database_bytes)),
    ]


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _large(count: float | None) -> str:
    if count is None:
        return _UNKNOWN
    for unit, name in ((1e9, "billion"), (1e6, "million")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count:,.0f}"
