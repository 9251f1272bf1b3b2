"""`hsstar problems`: datasets, and the problems of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath, Format, formatted, reading, verification_kind, writing
from hsstar.cli.text import say
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.problems import ProblemFormat
from hsstar.domain.selections import SORTS, Sort
from hsstar.domain.verdict import Cause

if TYPE_CHECKING:
    from hsstar.data.bad_rows import BadRows


@click.group(epilog="Example:  hsstar problems import train.jsonl --dataset numina")
def problems() -> None:
    """Import, list and delete problems; show those of a run; write those of the demo."""


@problems.command(
    "import", epilog="Example:  hsstar problems import gsm8k.jsonl --format gsm8k --dataset gsm8k"
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FilePath())
@click.option(
    "--format",
    "file_format",
    type=click.Choice([*map(str, ProblemFormat)]),
    default="auto",
    show_default=True,
)
@reading
@click.option("--dataset", required=True, metavar="NAME", help="The dataset to add the problems to.")
@click.option("--show", type=click.IntRange(1), metavar="N", help="Show N problems as read; import nothing.")
@click.option("--allow-unreadable", is_flag=True, help="Import though most references cannot be used.")
@verification_kind
@click.option("--skip-doubtful", is_flag=True, help="Leave out proofs and problems marked as not valid.")
@click.option("--replace", is_flag=True, help="Give problems of the dataset the references of FILE.")
def import_(
    files: tuple[Path, ...],
    file_format: str,
    mapping: tuple[str, ...],
    bad: "BadRows",
    dataset: str,
    show: int | None,
    allow_unreadable: bool,
    skip_doubtful: bool,
    replace: bool,
    kind: str,
) -> None:
    """Import the problems of each FILE (JSONL, JSON, CSV, TSV or Parquet, also compressed) into a dataset.

    FILE may be a folder, a pattern, or a dataset of the Hugging Face hub: hub:OWNER/NAME,
    hub:OWNER/NAME/FILE, or hub:OWNER/NAME:CONFIG@SPLIT. Or it is made on demand: gym:TASK?size=1000&seed=1.
    Problems that the dataset holds already are counted and left out. All is imported, or nothing.
    """
    from hsstar.cli.views.problems import import_progress, reading_lines, report_lines, shown_lines
    from hsstar.commands.problems import ImportOptions, import_problems
    from hsstar.data.files import ProblemFiles
    from hsstar.data.mapping import ColumnMap
    from hsstar.data.sources import files_of
    from hsstar.verifier.kinds import settings_for_references

    columns = ColumnMap.parse(mapping, ("statement",), ("reference", "solution"))
    source = ProblemFiles(files_of(files), ProblemFormat(file_format), columns, bad)
    if show is not None:
        for line in shown_lines(source, show):
            say(line)
        return
    with open_database() as database, import_progress(source.paths) as progress:
        verification = settings_for_references(kind)
        options = ImportOptions(allow_unreadable, replace, skip_doubtful, verification)
        report = import_problems(database, source, dataset, options, progress)
    say(
        f"{dataset}: {report.imported} problems imported, {report.duplicates} duplicates left out"
        f" (read {report.read})"
    )
    for line in (*reading_lines(source), *report_lines(report, dataset, replace)):
        say(line, err=True)


@problems.command("list", epilog="Example:  hsstar problems list")
@formatted
def list_(shown_as: Format) -> None:
    """List the datasets with their counts."""
    from hsstar.cli.views.output import show_list
    from hsstar.insights.problems import DatasetEntry, list_datasets

    with open_database() as database:
        show_list(DatasetEntry, list_datasets(database), shown_as)


_TABLES = ", ".join(("boundary", "overrated", "learnt", "forgotten", "never-right", "timed-out"))


@problems.command(epilog="Example:  hsstar problems show demo --preset overrated")
@click.argument("run", type=RUN)
@click.argument("problem", type=click.IntRange(1), required=False)
@click.option(
    "--preset", metavar="NAME", default="all", show_default=True, help=f"A usual table: {_TABLES} …"
)
@click.option("--measure", metavar="NAME", help="iteration, heldout, or a benchmark's.  [default: the first]")
@click.option("--iteration", type=click.IntRange(0), help="Only this one; of evaluations only that of M_t.")
@click.option("--level", type=click.Choice([*map(str, Difficulty)]))
@click.option("--cause", type=click.Choice([*map(str, Cause)]), help="A sample has it.")
@click.option("--pass-from", type=click.FloatRange(0, 1), help="Share of correct samples of the last policy.")
@click.option("--pass-to", type=click.FloatRange(0, 1))
@click.option("--tokens-from", type=click.IntRange(0), help="Mean of its samples.")
@click.option("--tokens-to", type=click.IntRange(0))
@click.option("--text", help="In the statement, in any case.")
@click.option("--sort", type=click.Choice(SORTS), help="The order.  [default: the preset's]")
@click.option("--descending", is_flag=True, help="The greatest first.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
@click.option("--after", metavar="KEY", help="The next page, as the page before says.")
@formatted
def show(
    run: str,
    problem: int | None,
    preset: str,
    measure: str | None,
    iteration: int | None,
    sort: Sort | None,
    descending: bool,
    limit: int,
    after: str | None,
    shown_as: Format,
    **wanted: Any,
) -> None:
    """Show the problems of RUN as a table, or PROBLEM alone with its history and all its samples.

    A row says what the policies of a measure (its iterations, or one of its evaluations) made of a problem.
    learnt and forgotten compare the first with the last of them, so they are asked of evaluations. over and
    under count samples on which S(r) and the verdict disagree.
    """
    from hsstar.cli.views.run_problems import show_problem, show_problems
    from hsstar.insights.problems import PRESETS, list_by_preset
    from hsstar.insights.problems import show_problem as load_problem
    from hsstar.store.read.problems import ProblemFilter

    with open_database() as database:
        if problem is not None:
            show_problem(load_problem(database, run, problem), shown_as)
            return
        page = list_by_preset(
            database,
            run,
            preset,
            measure,
            ProblemFilter(**wanted),
            iteration=iteration,
            sort=sort,
            descending=descending,
            after=after,
            at_most=limit,
        )
    show_problems(page, f"{run}, {page.measure}: {PRESETS[preset].title}", shown_as)
    if page.next is not None:
        say(f"more follow; the next page: --after {page.next}", err=True)


@problems.command(epilog="Example:  hsstar problems delete numina --dry-run")
@click.argument("dataset")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Delete it though recipes of runs name it; never any samples.")
def delete(dataset: str, dry_run: bool, yes: bool, force: bool) -> None:
    """Delete DATASET with its problems; refused while a run uses it."""
    from hsstar.commands.problems import delete_dataset

    with open_database() as database:
        count = delete_dataset(database, dataset, force=force, dry_run=True)
        if dry_run:
            say(f"{dataset}: {count} problems would be deleted")
            return
        if not yes:
            click.confirm(f"Delete dataset {dataset} with {count} problems?", abort=True, err=True)
        delete_dataset(database, dataset, force=force)
    say(f"{dataset}: {count} problems deleted")


@problems.command(epilog="Example:  hsstar problems demo --output train.jsonl --count 200")
@writing(required=True)
@click.option("--count", type=click.IntRange(1), default=200, show_default=True)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option("--held-out", is_flag=True, help="Problems for evaluation; no training problem is among them.")
def demo(output: Path, count: int, seed: int, held_out: bool) -> None:
    """Write the demo's arithmetic problems to a file, in the layout of GSM8K; needs no database."""
    from hsstar.demo.family import distinct_problems, write_problems

    write_problems(output, distinct_problems(count, seed, held_out=held_out))
    say(f"{count} problems written to {output}", err=True)
