"""`hsstar evaluate`: a policy, or given responses, measured on benchmarks."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hsstar.cli.environment import open_database
from hsstar.cli.options import Format, formatted

if TYPE_CHECKING:
    from hsstar.commands.evaluation_run import Started
    from hsstar.insights.evaluation import BenchmarkResult
    from hsstar.recipe.evaluation import BenchmarkSection
    from hsstar.recipe.policy import PolicySection
    from hsstar.store.database import Database


@dataclass(frozen=True)
class Wish:
    """What the options of the command say."""

    benchmarks: str | None
    data: Path | None
    problems: int | None
    decoding: dict[str, Any]
    prompt: str | None
    engine: str | None
    recipe: Path | None
    seed: int
    responses: Path | None


@click.command(epilog="Example:  hsstar evaluate ./my-policy --benchmarks gsm8k,math500 --data ./benchmarks")
@click.argument("model")
@click.option("--benchmarks", metavar="NAME,…", help="Benchmarks or imported datasets.  [default: all seven]")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with their files as published; what is imported, else the hub, where left out.",
)
@click.option("--problems", type=click.IntRange(1), help="The first so many of each, for a look.")
@click.option("--samples", type=click.IntRange(1), help="Samples per problem, in place of the protocol's.")
@click.option("--temperature", type=click.FloatRange(0, 10), help="In place of the protocol's; 0 is greedy.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="In place of the protocol's.")
@click.option("--max-new-tokens", type=click.IntRange(1), help="In place of the protocol's.")
@click.option("--prompt", help="Prompt template: qwen25-step-cot (default), bare, chat.")
@click.option("--engine", type=click.Choice(("transformers", "vllm", "openai")), help="What samples.")
@click.option("--recipe", type=click.Path(path_type=Path), help="Recipe whose [policy] is taken.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True)
@click.option(
    "--responses",
    type=click.Path(path_type=Path),
    help="Measure the responses in a file, as `samples import` reads it; MODEL is what they are called.",
)
@click.option("--compare", metavar="MODEL", help="Another policy that is measured too and held against it.")
@formatted
def evaluate(model: str, compare: str | None, shown_as: Format, **options: Any) -> None:
    """Measure MODEL on benchmarks: a registered name, a folder, or a Hugging Face name.

    The workers sample and verify. Ctrl-C ends the view only: the same command again goes on where they
    are, and shows the stored result once it is there. The headline is the unweighted mean.
    """
    from hsstar.commands.evaluate import check_measurable

    wish = _wish(**options)
    if model == compare:
        raise click.UsageError(f"--compare names {model} itself")
    with open_database() as database:
        names = [name for name in (model, compare) if name is not None]
        for name in names if wish.responses is None else names[1:]:
            check_measurable(database, name)
        sections = _sections(database, wish)
        started = [
            _start(database, name, wish if name == model else replace(wish, responses=None), sections)
            for name in names
        ]
        for each in started:
            _await(database, each, to_stderr=shown_as != "table")
        _show(database, started, wish.seed, shown_as)


def _wish(
    samples: int | None,
    temperature: float | None,
    top_p: float | None,
    max_new_tokens: int | None,
    **others: Any,
) -> Wish:
    given = {
        "samples": samples, "temperature": temperature, "top_p": top_p, "max_new_tokens": max_new_tokens
    }  # fmt: skip
    wish = Wish(decoding={key: value for key, value in given.items() if value is not None}, **others)
    drawing = (wish.decoding, wish.problems, wish.prompt, wish.engine, wish.recipe)
    if wish.responses is not None and any(drawing):
        raise click.UsageError("--responses goes with --benchmarks, --data and --compare: nothing is drawn")
    return wish


def _sections(database: "Database", wish: Wish) -> "list[BenchmarkSection]":
    """The benchmarks with their decoding; those that are not at hand are imported."""
    from hsstar.cli.benchmarks import bring, parse_names
    from hsstar.commands.evaluation_run import section_of
    from hsstar.domain.benchmarks import BENCHMARKS

    sections = []
    for name in parse_names(wish.benchmarks or ",".join(BENCHMARKS)):
        at_hand = name
        if name in BENCHMARKS:
            at_hand = bring(database, name, wish.data, partial=wish.problems is not None).name
        protocol = BENCHMARKS[name].decoding if name in BENCHMARKS else None
        sections.append(section_of(at_hand, protocol, wish.problems, wish.decoding))
    return sections


def _start(database: "Database", name: str, wish: Wish, sections: "list[BenchmarkSection]") -> "Started":
    from hsstar.commands.evaluate import start_evaluation
    from hsstar.commands.external_responses import import_responses

    if wish.responses is None:
        return start_evaluation(database, _policy(name, wish), sections, wish.seed)
    strict = wish.benchmarks is not None
    report = import_responses(database, name, wish.responses, sections, strict=strict)
    for benchmark, missing in report.missing.items():
        if missing:
            click.echo(f"{benchmark}: {missing} problems have no response and count as not solved", err=True)
    if report.strangers:
        click.echo(f"{report.strangers} responses belong to no problem of these benchmarks", err=True)
    return report.started


def _policy(name: str, wish: Wish) -> "PolicySection":
    """`[policy]` of the recipe, or its defaults, with what the options say in its place."""
    from hsstar.recipe.base import parse_section
    from hsstar.recipe.policy import PolicySection
    from hsstar.recipe.recipe import load_recipe

    document: dict[str, Any] = {}
    if wish.recipe is not None:
        document = load_recipe(wish.recipe).policy.model_dump(mode="json", exclude_unset=True)
    given = {"model": name, "prompt": wish.prompt, "engine": wish.engine}
    document |= {key: value for key, value in given.items() if value is not None}
    return parse_section(PolicySection, document, "[policy]")


def _await(database: "Database", started: "Started", *, to_stderr: bool) -> None:
    from hsstar.cli.iterate import follow
    from hsstar.commands.evaluation_run import is_finished

    if is_finished(database, started):
        return
    run = started.run.name
    follow(
        database,
        run,
        f"the workers go on; the same command shows the rest, or: hsstar status {run} --watch",
        to_stderr=to_stderr,
    )


def _show(database: "Database", started: "Sequence[Started]", seed: int, shown_as: Format) -> None:
    from hsstar.cli.views.results import show_results
    from hsstar.insights.evaluation import contest, load_results

    results: list[list[BenchmarkResult]] = [load_results(database, each.run, each.wanted) for each in started]
    names = [each.model for each in started]
    against = contest(results[0], results[1], seed) if len(results) > 1 else None
    show_results(list(zip(names, results, strict=True)), against, shown_as)
    sys.stdout.flush()
