"""`hsstar runs`: recipes under a name."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath, Format, changing, formatted
from hsstar.cli.text import say
from hsstar.commands.author import author

if TYPE_CHECKING:
    from hsstar.commands.delete_run import Deletion


@click.group(epilog="Example:  hsstar runs create --recipe configs/demo.toml")
def runs() -> None:
    """Create, fork and compare runs; pause, resume, cancel, archive, rename and delete them."""


@runs.command(epilog="Example:  hsstar runs create builtin:demo --name first --set sampling.n=16")
@click.argument("recipe", required=False, type=FilePath())
@click.option("--recipe", "file", type=FilePath(), help="The same as the argument RECIPE.")
@click.option("--name", help="The run's name.  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed.")
@changing
def create(
    recipe: Path | None, file: Path | None, name: str | None, seed: int | None, changes: tuple[str, ...]
) -> None:
    """Create a run from RECIPE, after checking every model and dataset that it names.

    RECIPE is a TOML file, or builtin:demo. The whole recipe is stored with the run and never changes.
    """
    from hsstar.commands.new_run import make_run
    from hsstar.insights.overlaps import overlap_lines
    from hsstar.recipe.documents import parse_changes
    from hsstar.recipe.recipe import load_recipe
    from hsstar.settings import Settings

    chosen = recipe or file
    if chosen is None or (recipe and file):
        raise click.UsageError("give one recipe: a TOML file, or builtin:demo")
    own = {"name": name, "seed": seed}
    own = {key: value for key, value in own.items() if value is not None}
    loaded = load_recipe(chosen, parse_changes(changes) | own)
    with open_database() as database:
        made = make_run(database, loaded, Settings.from_environment().models_dir)
    for line in overlap_lines(made.overlaps, excluded=loaded.problems.overlaps == "exclude"):
        say(line, err=True)
    for warning in made.warnings:
        say(f"warning: {warning}", err=True)
    say(f"run {made.run} created; start it: hsstar iterate {made.run} --watch")


@runs.command(epilog="Example:  hsstar runs fork demo --from 1 --set training.beta=0.2 --name demo-beta")
@click.argument("run", type=RUN)
@click.option(
    "--from",
    "iteration",
    type=click.IntRange(0),
    required=True,
    metavar="ITERATION",
    help="The first iteration that the fork does itself.",
)
@click.option("--name", help="The fork's name.  [default: RUN-from-ITERATION]")
@changing
def fork(run: str, iteration: int, name: str | None, changes: tuple[str, ...]) -> None:
    """Make a run that shares the iterations of RUN before ITERATION and continues otherwise.

    Nothing is copied: samples, pairs, policies and evaluations before it stay those of RUN.
    """
    from hsstar.commands.fork import fork_run
    from hsstar.recipe.documents import parse_changes
    from hsstar.settings import Settings

    models = Settings.from_environment().models_dir
    with open_database() as database:
        made = fork_run(database, run, iteration, parse_changes(changes), name, models)
    say(f"run {made.name} forked from {made.forked_from}; start it: hsstar iterate {made.name} --watch")


@runs.command("list", epilog="Example:  hsstar runs list")
@click.option("--all", "archived", is_flag=True, help="Also those that are archived.")
@formatted
def list_(archived: bool, shown_as: Format) -> None:
    """List the runs, oldest first; what hsstar evaluate made is listed by hsstar evaluations."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.runs import RunEntry, list_runs

    with open_database() as database:
        show_list(RunEntry, list_runs(database, archived=archived), shown_as)


@runs.command(epilog="Example:  hsstar runs show demo")
@click.argument("run", type=RUN)
def show(run: str) -> None:
    """Print the stored recipe of RUN with every default (JSON)."""
    from hsstar.cli.views.output import print_json
    from hsstar.insights.runs import find_run

    with open_database() as database:
        print_json(find_run(database, run).recipe.document())


@runs.command(epilog="Example:  hsstar runs diff demo demo-beta")
@click.argument("first", type=RUN)
@click.argument("second", type=RUN)
@formatted
def diff(first: str, second: str, shown_as: Format) -> None:
    """Print what two runs differ in: recipe, data, and the figures of their iterations and policies."""
    from hsstar.cli.views.output import Columns, show_list
    from hsstar.insights.comparison import Difference, compare_runs

    with open_database() as database:
        differences = compare_runs(database, first, second)
    if not differences and shown_as == "table":
        say(f"{first} and {second} do not differ")
        return
    columns: Columns[Difference] = {"": "part", "what": "name", first: "first", second: "second"}
    show_list(Difference, differences, shown_as, columns)


@runs.command(epilog="Example:  hsstar runs pause demo")
@click.argument("run", type=RUN)
def pause(run: str) -> None:
    """Let RUN rest until hsstar runs resume: its running jobs end, and no other begins. Nothing is lost."""
    from hsstar.commands.run_life import pause_run

    with open_database() as database:
        running = pause_run(database, run, author())
    under_way = f"; {running} running jobs end first" if running else ""
    say(f"{run} is paused{under_way}; continue it: hsstar runs resume {run}")


@runs.command(epilog="Example:  hsstar runs resume demo")
@click.argument("run", type=RUN)
def resume(run: str) -> None:
    """Let RUN continue, whatever holds it: a pause, a cancellation, its archive or its gate."""
    from hsstar.commands.run_life import resume_run

    with open_database() as database:
        reason = resume_run(database, run)
    say(f"{run} continues; it was held: {reason}")


@runs.command(epilog="Example:  hsstar runs cancel demo")
@click.argument("run", type=RUN)
def cancel(run: str) -> None:
    """Stop the jobs of RUN; each drops its unfinished batch. What is written stays."""
    from hsstar.commands.run_life import cancel_run

    with open_database() as database:
        running = cancel_run(database, run, author())
    stopped = f"; {running} running jobs stop with their batch" if running else ""
    say(f"{run} is cancelled{stopped}; its rows stay: hsstar runs resume {run}, or hsstar runs delete {run}")


@runs.command(epilog="Example:  hsstar runs archive demo")
@click.argument("run", type=RUN)
def archive(run: str) -> None:
    """Leave RUN out of hsstar runs list and hsstar status; everything in it stays."""
    from hsstar.commands.run_life import archive_run

    with open_database() as database:
        archive_run(database, run, author())
    say(f"{run} is archived; bring it back: hsstar runs resume {run}")


@runs.command(epilog="Example:  hsstar runs rename demo first-try")
@click.argument("run", type=RUN)
@click.argument("name")
def rename(run: str, name: str) -> None:
    """Call RUN by NAME from now on. The policies that it has trained keep their names and folders."""
    from hsstar.commands.run_life import rename_run
    from hsstar.settings import Settings

    with open_database() as database:
        rename_run(database, run, name, Settings.from_environment().models_dir)
    say(f"{run} is called {name} now")


@runs.command(epilog="Example:  hsstar runs delete demo --dry-run")
@click.argument("run", type=RUN)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def delete(run: str, dry_run: bool, yes: bool) -> None:
    """Delete RUN for good: its rows, and the policies that it trained and nothing else needs.

    Its jobs stop first. A run whose iterations a fork shares is not deleted.
    """
    from hsstar.commands.delete_run import delete_run, plan_deletion
    from hsstar.settings import Settings

    with open_database() as database:
        for line in _deletion_lines(plan_deletion(database, run)):
            say(line)
        if dry_run:
            return
        if not yes:
            click.confirm(f"Delete {run}?", abort=True)
        delete_run(database, run, author(), Settings.from_environment().models_dir)
    say(f"{run} is deleted")


def _deletion_lines(deletion: "Deletion") -> list[str]:
    from hsstar.cli.views.output import size

    contents = deletion.contents
    lines = [
        f"{deletion.run}: {contents.iterations} iterations, {contents.evaluations} evaluations, "
        f"{contents.samples} samples, {contents.pairs} pairs, {contents.live_jobs} queued or running jobs"
    ]
    if deletion.policies:
        lines.append(f"policies: {', '.join(deletion.policies)} ({size(deletion.checkpoint_bytes)})")
    if deletion.kept_policies:
        lines.append(f"policies that stay, because others need them: {', '.join(deletion.kept_policies)}")
    return lines
