"""Text of others on a terminal: it moves no cursor, hides nothing and is read as no markup."""

import sys
import unicodedata

import click

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
"""Categories of characters that a terminal obeys or does not show."""
_JOINERS = "\u200c\u200d"  # words and emoji need them


def visible(text: str) -> str:
    r"""Return the text with control, format and lone surrogate characters escaped, as in `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    if character in "\n\t" or character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    if character < "\x80":
        return f"\\x{ord(character):02x}"
    return character.encode("ascii", "backslashreplace").decode()


def say(text: str = "", *, err: bool = False, end: str = "\n") -> None:
    """Write a line for people to standard output, or to standard error."""
    click.echo(visible(text) + end, nl=False, err=err)


def say_exactly(text: str) -> None:
    """Write text as it is for a file or a pipe, for a terminal as `say` does."""
    click.echo(visible(text) if sys.stdout.isatty() else text, nl=False)
