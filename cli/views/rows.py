"""The rows of a user's file that were left out, in lines."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsstar.data.bad_rows import BadRows

_SHOWN = 5


def left_out_lines(bad: "BadRows") -> Iterator[str]:
    """Yield how many rows were left out, and the first of them with file, line and reason."""
    if bad.count:
        yield f"{bad.count} rows left out:"
        yield from first_of([f"  {message}" for message in bad.messages], bad.count)


def first_of(lines: Sequence[str], count: int) -> Iterator[str]:
    """Yield the first lines, and how many of `count` there are beyond them."""
    yield from lines[:_SHOWN]
    if count > _SHOWN:
        yield f"  and {count - _SHOWN} more"
