"""Options that many commands share."""

from collections.abc import Callable
from functools import wraps
from typing import Any, Literal, get_args

import click

Format = Literal["table", "csv", "json", "markdown"]
"""How a list is printed: for people, or for programs and papers."""


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
