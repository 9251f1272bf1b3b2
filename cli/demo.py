"""`hsstar demo`: the whole loop on small arithmetic problems, from nothing to a better policy."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from hsstar.settings import Settings
    from hsstar.store.database import Database

_SPARE_SLICES = 2
"""Training slices beyond the demo's own, for `hsstar iterate` afterwards."""


@click.command(epilog="Example:  hsstar demo --seed 1")
@click.option("--iterations", type=click.IntRange(1), default=2, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["transformers", "vllm"]),
    default="transformers",
    show_default=True,
    help="What samples from the policy.",
)
@click.option("--keep-up", is_flag=True, help="Leave servers and workers running at the end.")
def demo(iterations: int, seed: int, engine: str, keep_up: bool) -> None:
    """Run the whole loop from nothing: problems in, a better policy out, measured on held-out problems.

    It lives in a home of its own, HSSTAR_HOME/demo, with its own servers; its rows stay there.
    """
    from hsstar.cli.environment import own_settings
    from hsstar.cli.iterate import follow
    from hsstar.cli.report import print_report
    from hsstar.cli.stack import own_stack
    from hsstar.cli.views.output import console
    from hsstar.engines.registry import check_installed
    from hsstar.settings import Settings

    check_installed(engine)
    settings = own_settings(Settings.from_environment(), "demo")
    console.print(f"Starting Postgres, a broker and four workers in {settings.home} …")
    workers = dict.fromkeys(("sample", "score", "verify", "train"), 1)
    with own_stack(settings, workers, keep_up=keep_up) as database:
        run = _unfinished_run(database)
        if run is not None:
            console.print(f"Run {run} was interrupted; it continues.\n")
        else:
            run = _start_run(database, settings.models_dir, seed, engine, iterations)
        follow(database, run, f"Run {run} is interrupted; hsstar demo continues it.")
        console.print()
        print_report(database, run)
    _farewell(settings, run, keep_up)


def _unfinished_run(database: "Database") -> str | None:
    from hsstar.insights.runs import active_runs

    return next((run.name for run in active_runs(database) if run.recipe.problems.used), None)


def _start_run(database: "Database", models_folder: "Path", seed: int, engine: str, iterations: int) -> str:
    from hsstar.cli.views.output import console
    from hsstar.commands.runs import create_run, start_iterations
    from hsstar.demo import RECIPE
    from hsstar.demo.problems import import_demo_problems
    from hsstar.insights.runs import list_runs
    from hsstar.recipe.recipe import load_recipe, parse_recipe

    taken = {entry.run for entry in list_runs(database)}
    names = ["demo", *(f"demo-{number}" for number in range(2, len(taken) + 3))]
    free = next(name for name in names if name not in taken)
    document = load_recipe(RECIPE, {"name": free, "seed": seed}).document()
    document["policy"]["engine"] = engine
    recipe = parse_recipe(document)
    for dataset, report in import_demo_problems(database, recipe, iterations + _SPARE_SLICES).items():
        console.print(f"{dataset}: {report.imported} problems imported, {report.duplicates} there already")
    run = create_run(database, recipe, recipe.name, models_folder)
    start_iterations(database, run, iterations)
    console.print(
        f"Run {recipe.name}: {iterations} iterations of {recipe.problems.per_iteration} problems × "
        f"{recipe.sampling.n} samples; first each problem gets {recipe.sampling.n_p}, then the boundary "
        "problems get the rest.\n"
    )
    return recipe.name


def _farewell(settings: "Settings", run_name: str, kept_up: bool) -> None:
    from hsstar.cli.views.output import console

    prefix = f"HSSTAR_HOME={settings.home} hsstar"
    console.print("\nLook around:")
    if not kept_up:
        console.print(f"  {prefix} up")
    console.print(f"  {prefix} status {run_name}")
    console.print(f"  {prefix} sql 'table iteration_statistics'")
    console.print(f"  {prefix} iterate {run_name} --watch")
    console.print(f"  {prefix} down")
