"""`hsstar samples`: look at them, draw one again, import others, and for how long texts are kept."""

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath, Format, formatted, reading
from hsstar.cli.text import say
from hsstar.domain.difficulty import Difficulty
from hsstar.domain.verdict import Cause

if TYPE_CHECKING:
    from datetime import datetime

    from hsstar.commands.explanations import Explanation
    from hsstar.data.bad_rows import BadRows
    from hsstar.store.database import Database
    from hsstar.store.read.samples import Sample

_MOST_SHOWN = 8


@click.group(epilog="Example:  hsstar samples show demo --iteration 0 --cause timed_out")
def samples() -> None:
    """Show samples; draw one again; import responses drawn elsewhere; delete the texts of old ones."""


@samples.command(
    epilog="Example:  hsstar samples show demo --iteration 0 --verdict incorrect --reward-from 0.5"
)
@click.argument("run", metavar="RUN|ADDRESS", type=RUN)
@click.option(
    "--measure", metavar="NAME", help="iteration, heldout, a source, or the name of a benchmark's evaluation."
)
@click.option("--iteration", type=click.IntRange(0), help="Its number; of evaluations the t of M_t.")
@click.option("--problem", type=click.IntRange(1), help="The id of a problem, as in the views.")
@click.option("--policy", metavar="MODEL", help="Drawn by this policy.")
@click.option("--verdict", type=click.Choice(("correct", "incorrect", "none")))
@click.option("--cause", type=click.Choice([*map(str, Cause)]))
@click.option("--level", type=click.Choice([*map(str, Difficulty)]), help="Of the problem.")
@click.option("--phase", type=click.Choice(("pre", "re")), help="Pre-samples or re-samples.")
@click.option("--reward-from", type=click.FloatRange(0, 1), help="S(r), the minimum step reward.")
@click.option("--reward-to", type=click.FloatRange(0, 1))
@click.option(
    "--disagreement",
    type=click.Choice(("overrated", "underrated", "any")),
    help="Incorrect with S(r) of at least 0.5, correct with less, or both.",
)
@click.option("--pair", type=click.Choice(("chosen", "rejected", "any")), help="In a preference pair.")
@click.option("--text", help="In the response or the statement, in any case.")
@click.option("--limit", type=click.IntRange(1, 1000), default=10, show_default=True)
@click.option("--after", metavar="KEY", help="The next page, as the page before says.")
@click.option("--whole", is_flag=True, help="Do not cut long responses.")
@click.option("--explain", is_flag=True, help="Say how each verdict comes about, by the verifier of today.")
@formatted
def show(
    run: str,
    policy: str | None,
    problem: int | None,
    limit: int,
    after: str | None,
    whole: bool,
    explain: bool,
    shown_as: Format,
    **wanted: Any,
) -> None:
    """Show samples of RUN: statement, response step by step with rewards, verdict, origin, pair.

    ADDRESS is RUN/ITERATION/PROBLEM/SLOT, or RUN/MEASURE@T/PROBLEM/SLOT for a sample of an evaluation of M_t:
    that one is shown whole. What a terminal would obey is escaped, as it is everywhere.
    """
    from hsstar.cli.views.samples import show_samples
    from hsstar.domain.addresses import SampleAddress
    from hsstar.insights.samples import MOST_CHARACTERS, find_sample, list_samples
    from hsstar.store.read.samples import SampleFilter

    with open_database() as database:
        if "/" in run:
            rows, key = [find_sample(database, SampleAddress.parse(run))], None
        else:
            page = list_samples(
                database,
                run,
                SampleFilter(model=policy, problem_id=problem, **wanted),
                after=after,
                at_most=limit,
                characters=None if whole or explain else MOST_CHARACTERS,
            )
            rows, key = page.samples, page.next
        with _explaining(database, wanted=explain) as explanation:
            show_samples(rows, shown_as, explanation)
    if shown_as == "table" and not rows:
        say(f"{run} has no such sample")
    if key is not None:
        say(f"more follow; the next page: --after {key}", err=True)


@samples.command(epilog="Example:  hsstar samples redraw demo/0/17/3")
@click.argument("address")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
def redraw(address: str, as_json: bool) -> None:
    """Draw the sample at ADDRESS again, with its engine, seed and parameters, and compare bit by bit.

    The policy is loaded in this process. If the two differ, the output says where, and whether engine,
    version or batch explain it; the exit code is 1 if the texts differ.
    """
    from hsstar.cli.views.redrawn import show_redrawn
    from hsstar.commands.redraw import redraw as draw_again
    from hsstar.domain.addresses import SampleAddress
    from hsstar.insights.samples import find_sample

    parsed = SampleAddress.parse(address)
    with open_database() as database:
        redrawn = draw_again(database, parsed, find_sample(database, parsed))
    show_redrawn(redrawn, as_json=as_json)
    if not redrawn.same_text:
        sys.exit(1)


@contextmanager
def _explaining(database: "Database", *, wanted: bool) -> "Iterator[Callable[[Sample], Explanation] | None]":
    """Yield what explains a verdict, by the verifier; None where nobody wants that."""
    if not wanted:
        yield None
        return
    from hsstar.commands.explanations import explain
    from hsstar.verifier.kinds import make_verifier
    from hsstar.verifier.kinds.open_verifiers import OpenVerifiers

    with closing(OpenVerifiers(lambda settings: make_verifier(settings, 1))) as verifiers:
        yield lambda sample: explain(database, verifiers, sample)


@samples.command("import", epilog="Example:  hsstar samples import responses.jsonl --run mine")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FilePath())
@reading
@click.option("--run", required=True, type=RUN, help="The run that gets a new iteration.")
@click.option("--dataset", metavar="NAME", help="The dataset for the problems.  [default: the recipe's]")
@click.option("--allow-unreadable", is_flag=True, help="Import though most references cannot be used.")
def import_(
    files: tuple[Path, ...],
    mapping: tuple[str, ...],
    bad: "BadRows",
    run: str,
    dataset: str | None,
    allow_unreadable: bool,
) -> None:
    """Add an iteration to a run with the responses in FILE as pre-samples; workers verify and score them.

    A line of FILE holds a problem with its responses, {"problem": …, "answer": …, "responses": [...]}, or one
    sample, {"query": …, "resp": …, "ref_ans": …}, in one of the published layouts (docs/formats.md). The
    problems become the iteration's slice, and the workers draw the pre-samples that are missing. The same
    samples are imported into a run once. FILE may be a folder, a pattern, or a dataset of the Hugging Face
    hub: hub:OWNER/NAME, or hub:OWNER/NAME/FILE.
    """
    from hsstar.cli.views.problems import reference_lines
    from hsstar.cli.views.rows import first_of, left_out_lines
    from hsstar.commands.samples import import_samples
    from hsstar.data.mapping import ColumnMap
    from hsstar.data.samples import SampleFiles
    from hsstar.data.sources import files_of
    from hsstar.insights.runs import find_run

    with open_database() as database:
        stored = find_run(database, run)
        columns = ColumnMap.parse(mapping, ("statement",), ("response", "responses"))
        dataset = dataset or stored.recipe.problems.dataset
        source = SampleFiles(files_of(files), columns, bad)
        report = import_samples(database, stored, source, dataset, allow_unreadable=allow_unreadable)
    say(
        f"iteration {report.iteration} of {run}: {report.problems} problems, {report.imported} samples"
        + (f", {report.surplus} responses beyond n_p left out" if report.surplus else "")
    )
    for line in (*left_out_lines(bad), *reference_lines(report.references)):
        say(line, err=True)
    if report.conflicts:
        say(f"{len(report.conflicts)} problems have several reference answers; the first counts:", err=True)
        for line in first_of([f"  {conflict}" for conflict in report.conflicts], len(report.conflicts)):
            say(line, err=True)
    say(f"watch it: hsstar status {run}")


@samples.command(epilog="Example:  hsstar samples prune --before 2026-01-01 --keep pairs --dry-run")
@click.option("--before", type=click.DateTime(), required=True, help="Rounds that were done before it.")
@click.option(
    "--keep",
    type=click.Choice(("pairs", "correct", "nothing")),
    multiple=True,
    default=("pairs",),
    show_default=True,
    help="Texts that stay: those trained on, or of correct samples; repeatable.",
)
@click.option("--run", type=RUN, help="Only the rounds of this run.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def prune(before: "datetime", keep: tuple[str, ...], run: str | None, dry_run: bool, yes: bool) -> None:
    """Delete responses and step rewards of old samples, to save space.

    Verdicts, answers, minimum rewards, token counts, pairs and all figures stay. What has no text any more is
    neither exported nor judged again.
    """
    from hsstar.cli.views.output import Columns, show_list, size
    from hsstar.commands.prune_samples import PrunedRound, prune_samples

    columns: Columns[PrunedRound] = {
        "run": "run", "round": "round", "samples": "samples", "text": lambda lost: size(lost.bytes)
    }  # fmt: skip
    moment = before.astimezone()
    with open_database() as database:
        prunable = prune_samples(database, moment, keep, run, dry_run=True)
        if prunable:
            show_list(PrunedRound, prunable, "table", columns)
        count, text = sum(lost.samples for lost in prunable), size(sum(lost.bytes for lost in prunable))
        if dry_run or not prunable:
            say(f"{count} samples can lose their text: {text}")
            return
        if not yes:
            click.confirm(f"Delete the texts of {count} samples ({text})?", abort=True)
        pruned = prune_samples(database, moment, keep, run, dry_run=False)
    say(f"{sum(lost.samples for lost in pruned)} samples have lost their text")
