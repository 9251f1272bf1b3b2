"""Bars of characters, which read without colour too."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from rich.text import Text

LEVELS = (("inlier", "█", "green"), ("boundary", "▓", "yellow"), ("outlier", "░", "red"))
"""Level, character and colour, from the easiest to the hardest."""


def progress_bar(done: float, whole: float, width: int, style: str = "cyan") -> Text:
    """Return a bar of this width that is filled to done/whole."""
    filled = round(width * min(1.0, done / whole)) if whole else 0
    return Text.assemble(("█" * filled, style), ("·" * (width - filled), "dim"))


def level_bar(counts: Sequence[int], width: int) -> Text:
    """Return a stacked bar of problems by level, easiest first; dots for those without any yet."""
    edges = [0, *accumulate(shares(counts, width))]
    bar = Text()
    for (start, end), (_, character, colour) in zip(pairwise(edges), LEVELS, strict=True):
        bar.append(character * (end - start), colour)
    return bar if bar else Text("·" * width, "dim")


def shares(counts: Sequence[int], width: int) -> list[int]:
    """Return whole numbers in these proportions that add up to the width; zeros if all counts are zero."""
    whole = sum(counts)
    if not whole:
        return [0] * len(counts)
    edges = [round(width * part / whole) for part in accumulate(counts, initial=0)]
    return [end - start for start, end in pairwise(edges)]


def level_line(counts: Sequence[int], width: int) -> Text:
    """Return the stacked bar and what its parts mean."""
    legend = "  ".join(
        f"{character} {name} {count}" for count, (name, character, _) in zip(counts, LEVELS, strict=True)
    )
    return Text.assemble(level_bar(counts, width), f"  {legend}")
