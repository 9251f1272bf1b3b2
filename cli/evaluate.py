"""`hsstar evaluate`: measure a policy, or external responses, on benchmarks."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.names import MODEL
from hsstar.cli.options import FilePath, Format, formatted, reading
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.commands.evaluate import EvaluateOptions, Evaluation, Notice
    from hsstar.data.bad_rows import BadRows
    from hsstar.store.database import Database


_DECODING = (
    "samples", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens"
)  # fmt: skip


@click.command(epilog="Example:  hsstar evaluate ./my-policy --benchmarks gsm8k,math500 --data ./benchmarks")
@click.argument("model", type=MODEL)
@click.option("--benchmarks", metavar="NAME,…", help="Benchmarks or imported datasets.  [default: all seven]")
@click.option(
    "--data",
    type=FilePath(),
    help="Folder with their files as published; what is imported, else the hub, where left out.",
)
@click.option("--problems", type=click.IntRange(1), metavar="N", help="Only the first N of each.")
@click.option("--samples", type=click.IntRange(1), help="Samples per problem, in place of the protocol's.")
@click.option("--temperature", type=click.FloatRange(0, 10), help="In place of the protocol's; 0 is greedy.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="In place of the protocol's.")
@click.option("--top-k", type=click.IntRange(0), help="Of the most probable tokens; 0: all.  [default: 0]")
@click.option("--min-p", type=click.FloatRange(0, 1), help="Share of the highest probability.  [default: 0]")
@click.option(
    "--repetition-penalty", type=click.FloatRange(0, 10, min_open=True), help="Above 1: fewer repetitions."
)
@click.option("--max-new-tokens", type=click.IntRange(1), help="In place of the protocol's.")
@click.option("--prompt", help="Prompt template: qwen25-step-cot (default), bare, chat.")
@click.option("--engine", type=click.Choice(("transformers", "vllm", "openai")), help="What samples.")
@click.option("--recipe", type=FilePath(), help="Recipe whose [policy] and [verification] count.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--responses",
    type=FilePath(),
    help="Measure the responses in a file, as `samples import` reads it; MODEL is what they are called.",
)
@click.option(
    "--compare", type=MODEL, metavar="MODEL", help="Another policy that is measured too and held against it."
)
@reading
@formatted
def evaluate(shown_as: Format, bad: "BadRows", **options: Any) -> None:
    """Measure MODEL on benchmarks: a registered name, a folder, or a Hugging Face name.

    The workers sample and verify. Ctrl-C ends the view only. The same command again follows them, and shows
    the stored result once it is complete. The macro average is the unweighted mean of the benchmarks.
    """
    from hsstar.cli.benchmarks import import_progress
    from hsstar.cli.iterate import follow
    from hsstar.cli.views.rows import left_out_lines
    from hsstar.commands import evaluate as commands

    request = _request(bad=bad, **options)
    with open_database() as database:
        evaluation = commands.evaluate(database, request, _tell, import_progress())
        for line in left_out_lines(bad):
            say(line, err=True)
        for started in evaluation.unfinished(database):
            run = started.run.name
            interrupted = (
                f"the workers go on; the same command shows the rest, or: hsstar status {run} --watch"
            )
            follow(database, run, interrupted, to_stderr=shown_as != "table")
        _show(database, evaluation, request.seed, shown_as)


def _request(
    benchmarks: str | None,
    responses: Path | None,
    mapping: tuple[str, ...],
    bad: "BadRows",
    **options: Any,
) -> "EvaluateOptions":
    from hsstar.cli.benchmarks import parse_names
    from hsstar.commands.evaluate import EvaluateOptions
    from hsstar.data.mapping import ColumnMap
    from hsstar.data.samples import SampleFiles
    from hsstar.data.sources import files_of

    if responses is None and (mapping or bad.limit):
        raise click.UsageError("--map and --skip-bad go with --responses")
    columns = ColumnMap.parse(mapping, ("statement",), ("response", "responses"))
    decoding = {key: options.pop(key) for key in _DECODING}
    return EvaluateOptions(
        benchmarks=() if benchmarks is None else parse_names(benchmarks),
        decoding={key: value for key, value in decoding.items() if value is not None},
        responses=None if responses is None else SampleFiles(files_of([responses]), columns, bad),
        **options,
    )


def _tell(notice: "Notice") -> None:
    from hsstar.cli.benchmarks import show_import
    from hsstar.commands.benchmarks import ImportedBenchmark

    if isinstance(notice, ImportedBenchmark):
        show_import(notice)
        return
    for benchmark, missing in notice.missing.items():
        if missing:
            say(f"{benchmark}: {missing} problems have no response and count as not solved", err=True)
    if notice.unmatched:
        say(f"{notice.unmatched} responses belong to no problem of these benchmarks", err=True)


def _show(database: "Database", evaluation: "Evaluation", seed: int, shown_as: "Format") -> None:
    from hsstar.cli.views.results import show_results
    from hsstar.insights.evaluation import compare_policies, load_results

    policies = [(run.model, load_results(database, run)) for run in evaluation.runs]
    results = [benchmarks for _, benchmarks in policies]
    comparison = compare_policies(results[0], results[1], seed) if len(results) > 1 else None
    show_results(policies, comparison, shown_as)
    sys.stdout.flush()
