"""A sample that was drawn again, beside the stored one."""

from collections.abc import Iterator
from dataclasses import asdict

from hsstar.cli.views.output import console, print_json
from hsstar.commands.redraw import Redrawn

_AROUND = 40


def show_redrawn(redrawn: Redrawn, *, as_json: bool) -> None:
    """Print whether the two are the same, and where they differ."""
    if as_json:
        print_json(
            asdict(redrawn)
            | {
                "same": redrawn.same,
                "differences": [*redrawn.differences()],
                "reasons": [*redrawn.reasons()],
            }
        )
        return
    for line in _lines(redrawn):
        console.print(line)


def _lines(redrawn: Redrawn) -> Iterator[str]:
    by = f"{redrawn.engine}, seed {redrawn.sample.seed}"
    if redrawn.same:
        yield f"{redrawn.address}: the same, bit by bit ({redrawn.completion.tokens} tokens; {by})"
        return
    if redrawn.same_text:
        yield f"{redrawn.address}: the same text, other figures ({by})"
    else:
        yield f"{redrawn.address}: another text ({by})"
    if redrawn.differs_at is not None and redrawn.stored_text is not None:
        yield f"  from character {redrawn.differs_at} on:"
        yield f"    stored  {_around(redrawn.stored_text, redrawn.differs_at)}"
        yield f"    drawn   {_around(redrawn.drawn_text, redrawn.differs_at)}"
    for name, before, now in redrawn.differences():
        yield f"  {name}: stored {before}, drawn {now}"
    for reason in redrawn.reasons():
        yield f"  {reason}"


def _around(text: str, place: int) -> str:
    """Return what stands around a place, in one line."""
    start, end = max(0, place - _AROUND), place + _AROUND
    part = repr(text[start:place])[1:-1] + "▸" + repr(text[place:end])[1:-1]
    return f"{'…' if start else ''}{part}{'…' if end < len(text) else ''}"
