"""`hsstar train`: training in the foreground, from files or from a run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from hsstar.cli.names import RUN
from hsstar.cli.options import FilePath, skipping
from hsstar.cli.text import say

if TYPE_CHECKING:
    from hsstar.data.bad_rows import BadRows
    from hsstar.domain.reward_quality import RewardQuality
    from hsstar.engines.training.contract import TrainingEvent, TrainingReport
    from hsstar.recipe.recipe import Recipe
    from hsstar.recipe.training import OptimisationSection

_LINE_SECONDS = 5.0
Section = TypeVar("Section", bound="OptimisationSection")


@click.group(epilog="Example:  hsstar train init --data steps.jsonl --model ./base --output ./M0")
def train() -> None:
    """Train in the foreground: from a file, without a database, or from the rows of a run."""


def _options(data: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed."),
            click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replaces a setting."),
            click.option("--recipe", "file", type=FilePath(), help="The recipe with the settings."),
            click.option("--output", required=True, type=FilePath(), help="The new checkpoint."),
            click.option("--model", help="The checkpoint to begin from: a folder or a Hugging Face name."),
            click.option("--data", help=f"{data}: a file, a folder, a pattern, or hub:OWNER/NAME/FILE."),
        ):
            command = option(command)
        return skipping(command)

    return add


_prompt = click.option(
    "--prompt",
    metavar="TEMPLATE",
    help="Renders problems, and conversations of one question.  [default: "
    "for problems the recipe's, else qwen25-step-cot; for conversations the model's own]",
)


@train.command(epilog="Example:  hsstar train init --data steps.jsonl --model Qwen/Qwen2.5-7B --output ./M0")
@_options("Solutions in steps")
@_prompt
def init(data: str | None, model: str | None, **options: Any) -> None:
    """Make M_0: supervised fine-tuning on solutions in steps, the tokens of prompts masked from the loss.

    Settings are those of the table [initialisation] of the recipe; by default one epoch, batches of 256,
    learning rate 1e-6, at most 4,096 tokens. Interrupted, the same command continues.
    """
    from hsstar.recipe.training import InitialisationSection

    recipe = _recipe(**options)
    section = recipe.initialisation if recipe else InitialisationSection()
    _train(
        "sft",
        _required(data or section.data, "--data", "initialisation.data"),
        _required(model or section.model, "--model", "initialisation.model"),
        recipe,
        section,
        "initialise",
        **options,
    )


@train.command(epilog="Example:  hsstar train sft --data chats.jsonl --model ./M0 --output ./M1")
@_options("Conversations, prompts with completions, samples, or problems with solutions")
@_prompt
def sft(data: str | None, model: str | None, **options: Any) -> None:
    """Fine-tune on responses from a file, the tokens of prompts masked from the loss.

    Of a conversation every answer of the assistant is learnt. Settings are those of the table [training] of
    the recipe. Interrupted, the same command continues.
    """
    _train_as_an_iteration("sft", data, model, **options)


@train.command(epilog="Example:  hsstar train dpo --data pairs.jsonl --model ./M0 --output ./M1")
@_options("Preference pairs: prompt, chosen, rejected, or another layout")
@_prompt
def dpo(data: str | None, model: str | None, **options: Any) -> None:
    """Train on preference pairs from a file; prompts that are texts are used unchanged.

    Settings are those of the table [training] of the recipe. Interrupted, the same command continues.
    """
    _train_as_an_iteration("dpo", data, model, **options)


@train.command(epilog="Example:  hsstar train kto --data judged.jsonl --model ./M0 --output ./M1")
@_options("Judged responses: prompt, response, label, or another layout")
@_prompt
def kto(data: str | None, model: str | None, changes: tuple[str, ...], **options: Any) -> None:
    """Train on responses from a file, each labelled as right or wrong (KTO); no pairs are needed.

    Prompts that are texts are used unchanged. Settings are those of the table [training] of the recipe.
    Interrupted, the same command continues.
    """
    _train_as_an_iteration("kto", data, model, changes=("objective='kto'", *changes), **options)


def _train_as_an_iteration(
    objective: Literal["sft", "dpo", "kto"], data: str | None, model: str | None, **options: Any
) -> None:
    from hsstar.recipe.training import TrainingSection

    recipe = _recipe(**options)
    _train(
        objective,
        _required(data, "--data", None),
        _required(model or (recipe.policy.model if recipe else None), "--model", "policy.model"),
        recipe,
        recipe.training if recipe else TrainingSection(),
        "train",
        **options,
    )


@train.command(epilog="Example:  hsstar train prm --run demo --output ./demo-prm")
@click.option("--run", required=True, type=RUN, help="The run whose policy and responses it is made from.")
@click.option("--output", required=True, type=FilePath(), help="The new checkpoint.")
@click.option("--iteration", type=click.IntRange(0), help="Of the run; else its last one that is done.")
@click.option(
    "--responses", type=click.IntRange(1), default=4, show_default=True, help="Of each problem, the first N."
)
@click.option(
    "--continuations", type=click.IntRange(1), default=8, show_default=True, help="Drawn from each step."
)
@click.option(
    "--held-out",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="Share of the problems that measure it.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the run's seed.")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help="Replaces a setting.")
def prm(changes: tuple[str, ...], **options: Any) -> None:
    """Make a process reward model for the policy of a run, from continuations of its responses.

    The workers continue each response from the end of each step; the share of correct continuations is the
    label of that step. Then a value head on the policy is trained here, and measured on held-out problems.
    By default one epoch, batches of 64, learning rate 1e-5. Interrupted, the same command continues.
    """
    from hsstar.cli.environment import open_database
    from hsstar.cli.iterate import follow
    from hsstar.commands import train_prm as commands
    from hsstar.recipe.training import RewardTrainingSection
    from hsstar.settings import Settings

    section = _changed(RewardTrainingSection(), changes)
    request = commands.RewardTraining(section=section, **options)
    with open_database() as database:
        labelling = commands.label_steps(database, request)
        if not commands.is_labelled(database, labelling):
            interrupted = "the workers go on; the same command continues when the steps are labelled"
            follow(database, labelling.run.name, interrupted, kind="steps")
        with _resumable():
            report = commands.train_reward_model(
                database, request, labelling, Settings.from_environment(), _TrainingView()
            )
    _say_training(request.output, report.training)
    _show_quality(report.quality)


def _show_quality(quality: "RewardQuality") -> None:
    from hsstar.cli.views.output import show
    from hsstar.commands.train_prm import measures

    show(("on held-out problems", ""), measures(quality))
    show(
        ("rewards", "steps", "mean reward", "mean label"),
        [
            (f"{of.low:.1f}–{of.high:.1f}", of.steps, f"{of.mean_reward:.3f}", f"{of.mean_label:.3f}")
            for of in quality.reliability
        ],
    )


def _recipe(file: Path | None, seed: int | None, **_: Any) -> "Recipe | None":
    from hsstar.recipe.recipe import load_recipe

    return load_recipe(file, {} if seed is None else {"seed": seed}) if file else None


def _required(value: str | None, option: str, key: str | None) -> str:
    if value is None:
        elsewhere = f", or say {key} in the recipe" if key else ""
        raise click.UsageError(f"give {option}{elsewhere}")
    return value


def _changed(section: Section, changes: tuple[str, ...]) -> Section:
    """Replace single keys of a section; values are TOML, a bare word is text."""
    from hsstar.recipe.base import parse_section
    from hsstar.recipe.documents import merged, parse_changes

    return parse_section(type(section), merged(section.model_dump(), parse_changes(changes)), "--set")


def _train(
    objective: Literal["sft", "dpo", "kto"],
    data: str,
    model: str,
    recipe: "Recipe | None",
    section: "OptimisationSection",
    purpose: str,
    *,
    prompt: str | None,
    output: Path,
    file: Path | None,
    changes: tuple[str, ...],
    seed: int | None,
    bad: "BadRows",
) -> None:
    from hsstar.cli.views.rows import left_out_lines
    from hsstar.commands.train import file_training, train_from_file
    from hsstar.settings import Settings

    task = file_training(
        objective,
        data,
        model,
        output,
        _changed(section, changes),
        purpose,
        recipe=recipe,
        recipe_text=file.read_text(encoding="utf-8") if file else None,
        prompt=prompt,
        seed=seed,
        bad=bad,
    )
    with _resumable():
        report = train_from_file(task, Settings.from_environment(), _TrainingView())
    for line in left_out_lines(bad):
        say(line, err=True)
    for reason, count in report.left_out.items():
        say(f"{count} {reason} were left out", err=True)
    if report.one_step:
        say(f"{report.one_step} solutions have one step only; see: hsstar data steps", err=True)
    _say_training(output, report.training)
    if report.update.warning:
        say(f"{output}: {report.update.warning}", err=True)


@contextmanager
def _resumable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        say("\ninterrupted; the same command continues from the last intermediate checkpoint", err=True)
        raise


def _say_training(output: Path, training: "TrainingReport") -> None:
    say(
        f"{output}: {training.examples} rows, {training.truncated} of them cut, "
        f"{training.metrics['left_out']:.0f} left out, {training.steps} steps, "
        f"loss {training.metrics['loss']:.4g} (last {training.metrics['last/loss']:.4g})"
    )


class _TrainingView:
    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, event: "TrainingEvent") -> None:
        """Show an event of the training."""
        from hsstar.engines.training.contract import TrainingStart, TrainingStep

        if isinstance(event, TrainingStart):
            begins = f"continuing from step {event.resumed_at}" if event.resumed_at else "beginning"
            say(
                f"{begins}: {event.steps} steps, {event.examples} rows, {event.truncated} cut, "
                f"{event.describe_left_out()}",
                err=True,
            )
        elif isinstance(event, TrainingStep):
            self._step(event.step, event.steps, event.metrics)

    def _step(self, step: int, steps: int, metrics: dict[str, float]) -> None:
        ends = step == steps
        live = sys.stderr.isatty()
        if not live and not ends and time.monotonic() - self._last < _LINE_SECONDS:
            return
        self._last = time.monotonic()
        line = (
            f"step {step}/{steps}  loss {metrics['loss']:.4f}  learning rate {metrics['learning_rate']:.2e}  "
            f"{metrics['tokens_per_second']:,.0f} tokens/s"
        )
        click.echo(f"\r\x1b[K{line}" if live else line, nl=ends or not live, err=True)
