"""Text of others on a terminal: it moves no cursor, hides nothing and is read as no markup."""

import sys

import click

from hsstar.domain.text import visible as visible


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Write a line for people to standard output, or to standard error."""
    click.echo(visible(text) + end, nl=False, err=err)


def say_exactly(text: str) -> None:
    """Write text as it is for a file or a pipe, for a terminal as `say` does."""
    click.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
