"""Options that many commands share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Literal, get_args

import click

from hsstar.commands.author import author
from hsstar.data.bad_rows import BadRows
from hsstar.domain.errors import ConflictError
from hsstar.domain.verdict import Kind

_ALL = 2**31 - 1  # more rows than any file has

Format = Literal["table", "csv", "json", "markdown"]
"""How a list is printed: for people, or for programs and papers."""


class FilePath(click.Path):
    """A path of the user's, as Path. An empty one is refused: a shell's unset variable is no folder."""

    def __init__(self, *, exists: bool = False, file_okay: bool = True, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, file_okay=file_okay, dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or fail as click does."""
        if not str(value).strip():
            self.fail("the name is empty", param, ctx)
        return super().convert(value, param, ctx)


def formatted(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--format` and its short form `--json`; the command takes the choice as `shown_as`."""

    @click.option(
        "--format",
        "shown_as",
        type=click.Choice(get_args(Format)),
        default="table",
        show_default=True,
        help="How the result is printed.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
    @wraps(command)
    def wrapper(*arguments: Any, as_json: bool, shown_as: Format, **options: Any) -> None:
        command(*arguments, shown_as="json" if as_json else shown_as, **options)

    return wrapper


def verification_kind(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--verification` as `kind`: by which kind of verification references are read."""
    return click.option(
        "--verification",
        "kind",
        type=click.Choice(get_args(Kind)),
        default="math",
        show_default=True,
        help="How answers will be verified, which decides what a reference may be.",
    )(command)


def skipping(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--skip-bad`; the command takes as `bad` what may be left out of the user's rows."""

    @click.option(
        "--skip-bad",
        type=click.IntRange(0),
        default=0,
        is_flag=False,
        flag_value=_ALL,
        metavar="[=N]",
        help="Leave out rows that cannot be used, at most N, and name them.",
    )
    @wraps(command)
    def wrapper(*arguments: Any, skip_bad: int, **options: Any) -> None:
        command(*arguments, bad=BadRows(skip_bad), **options)

    return wrapper


def reading(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--map` as `mapping`, and `--skip-bad`: how rows of the user's files are read."""
    option = click.option(
        "--map",
        "mapping",
        multiple=True,
        metavar="FIELD=PATH",
        help="Where a field is, as in statement=prompt.-1.content; once per field.",
    )
    return option(skipping(command))


def changing(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--set` as `changes`: keys of a recipe that are replaced."""
    text = "Replaces a key of the recipe; repeatable, as in --set sampling.n=16."
    return click.option("--set", "changes", multiple=True, metavar="KEY=VALUE", help=text)(command)


def judging(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--by` as `author`, and `--change-evaluations`."""
    for option in (
        click.option(
            "--by",
            "author",
            default=author,
            show_default="user@host",
            help="Who is recorded with the verdict.",
        ),
        click.option(
            "--change-evaluations", is_flag=True, help="Change the figures of evaluations that are done, too."
        ),
    ):
        command = option(command)
    return command


def writing(
    *, required: bool = False, passes_force: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add `--output` as `output`, and `--force`, without which no file of the command may be there.

    With `passes_force` the command takes `force` too.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        text = "The file." if required else "The file.  [default: standard output]"

        @click.option("--output", required=required, type=FilePath(), help=text)
        @click.option("--force", is_flag=True, help="Replace an existing file.")
        @wraps(command)
        def wrapper(*arguments: Any, force: bool, **options: Any) -> None:
            for file in (options["output"], options.get("refused")):
                if file is not None and file.is_file() and not force:
                    raise ConflictError(f"{file} is there already; give another file, or --force")
            command(*arguments, **options, **({"force": force} if passes_force else {}))

        return wrapper

    return decorate
