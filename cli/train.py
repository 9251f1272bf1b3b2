"""`hsstar train`: training from files in the foreground."""

import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hsstar.commands.train import FileTraining
    from hsstar.engines.training.contract import TrainingEvent
    from hsstar.recipe.recipe import Recipe
    from hsstar.recipe.training import OptimisationSection

_LINE_SECONDS = 5.0


@click.group(epilog="Example:  hsstar train init --data steps.jsonl --model ./base --output ./M0")
def train() -> None:
    """Train from a file, in the foreground; needs no database."""


def _options(data: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Replaces the recipe's seed."),
            click.option(
                "--set", "changes", multiple=True, metavar="KEY=VALUE", help="A key of the recipe's table."
            ),
            click.option(
                "--recipe", "file", type=click.Path(path_type=Path), help="Where the settings come from."
            ),
            click.option(
                "--output", required=True, type=click.Path(path_type=Path), help="The new checkpoint."
            ),
            click.option("--model", help="The checkpoint to begin from: a folder or a Hugging Face name."),
            click.option("--data", help=f"{data}: a file, or hub:OWNER/NAME/FILE."),
        ):
            command = option(command)
        return command

    return add


@train.command(epilog="Example:  hsstar train init --data steps.jsonl --model Qwen/Qwen2.5-7B --output ./M0")
@_options("Solutions in steps")
@click.option("--prompt", help="The prompt template; the recipe's, else qwen25-step-cot.")
def init(
    data: str | None,
    model: str | None,
    output: Path,
    file: Path | None,
    changes: tuple[str, ...],
    seed: int | None,
    prompt: str | None,
) -> None:
    """Make M_0: supervised fine-tuning on solutions in steps, the tokens of prompts masked from the loss.

    Settings are those of the table [initialisation] of the recipe: one epoch, batches of 256, learning rate
    1e-6, at most 4,096 tokens where it says nothing else. Interrupted, the same command goes on.
    """
    from hsstar.commands.train import FileTraining
    from hsstar.recipe.training import InitialisationSection

    recipe = _recipe(file, seed)
    given = recipe.initialisation if recipe else InitialisationSection()
    section = _changed(given, changes)
    template = prompt or (recipe.policy.prompt if recipe else "qwen25-step-cot")
    wanted = FileTraining(
        "sft",
        _required(data or given.data, "--data", "initialisation.data"),
        _required(model or given.model, "--model", "initialisation.model"),
        output,
        section,
        _seed(recipe, seed, "initialise"),
        template,
        file.read_text(encoding="utf-8") if file else None,
    )
    _run(wanted)


@train.command(epilog="Example:  hsstar train dpo --data pairs.jsonl --model ./M0 --output ./M1")
@_options("Preference pairs (prompt, chosen, rejected)")
def dpo(
    data: str | None,
    model: str | None,
    output: Path,
    file: Path | None,
    changes: tuple[str, ...],
    seed: int | None,
) -> None:
    """Preference optimisation on pairs from a file; their prompts are taken as they stand there.

    Settings are those of the table [training] of the recipe. Interrupted, the same command goes on.
    """
    from hsstar.commands.train import FileTraining
    from hsstar.recipe.training import TrainingSection

    recipe = _recipe(file, seed)
    section = _changed(recipe.training if recipe else TrainingSection(), changes)
    wanted = FileTraining(
        "dpo",
        _required(data, "--data", None),
        _required(model or (recipe.policy.model if recipe else None), "--model", "policy.model"),
        output,
        section,
        _seed(recipe, seed, "train"),
        recipe=file.read_text(encoding="utf-8") if file else None,
    )
    _run(wanted)


def _recipe(file: Path | None, seed: int | None) -> "Recipe | None":
    from hsstar.recipe.recipe import load_recipe

    return load_recipe(file, {} if seed is None else {"seed": seed}) if file else None


def _seed(recipe: "Recipe | None", seed: int | None, purpose: str) -> int:
    from hsstar.domain.seeds import derived_seed

    return derived_seed(recipe.seed if recipe else seed or 0, purpose) % 2**31


def _required(value: str | None, option: str, key: str | None) -> str:
    if value is None:
        elsewhere = f", or say {key} in the recipe" if key else ""
        raise click.UsageError(f"give {option}{elsewhere}")
    return value


def _changed(section: Any, changes: tuple[str, ...]) -> "OptimisationSection":
    """The section with single keys replaced; values are read as TOML, a bare word as text."""
    from hsstar.recipe.base import parse_section

    given: dict[str, Any] = {}
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals:
            raise click.BadParameter(f"{change!r} is not KEY=VALUE", param_hint="'--set'")
        try:
            given[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            given[key.strip()] = text.strip()
    changed: OptimisationSection = parse_section(type(section), section.model_dump() | given, "--set")
    return changed


def _run(wanted: "FileTraining") -> None:
    from hsstar.commands.train import train_from_file
    from hsstar.settings import Settings

    try:
        report = train_from_file(wanted, Settings.from_environment(), _Shown())
    except KeyboardInterrupt:
        click.echo("\ninterrupted; the same command goes on from the last intermediate checkpoint", err=True)
        raise
    if report.without_solution:
        click.echo(f"{report.without_solution} problems without a solution were left out", err=True)
    if report.one_step:
        click.echo(f"{report.one_step} solutions have one step only; see: hsstar data steps", err=True)
    training = report.training
    click.echo(
        f"{wanted.output}: {training.examples} rows, {training.truncated} of them cut, "
        f"{training.metrics['left_out']:.0f} left out, {training.steps} steps, "
        f"loss {training.metrics['loss']:.4g} (last {training.metrics['last/loss']:.4g})"
    )


class _Shown:
    """Shows how far a training is: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, event: "TrainingEvent") -> None:
        """Takes an event of the training."""
        from hsstar.engines.training.contract import TrainingStart, TrainingStep

        if isinstance(event, TrainingStart):
            begins = f"going on from step {event.resumed_at}" if event.resumed_at else "beginning"
            click.echo(
                f"{begins}: {event.steps} steps, {event.examples} rows, {event.truncated} cut, "
                f"{event.left_out} left out",
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
