"""The flow of an iteration as a picture: slice, levels, re-samples, pairs; heights are shares."""

from collections.abc import Sequence
from dataclasses import dataclass

from hsstar.store.read.figures import LevelFlow

ORDER = ("inlier", "boundary", "outlier", "unlabelled")
HEIGHT = 132.0
_GAP = 7.0
_BAR = 10.0
_COLUMNS = (0.0, 250.0, 500.0, 750.0)  # left edges of the bars


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a bar with what it stands for."""

    level: str
    x: float
    y: float
    height: float
    number: int


@dataclass(frozen=True, slots=True)
class Band:
    """What leads from a block to the next column, as an SVG path."""

    level: str
    path: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Blocks and bands in a box of 1000 × `HEIGHT`."""

    blocks: list[Block]
    bands: list[Band]


def draw_flow(levels: Sequence[LevelFlow]) -> Flow | None:
    """Place the levels of an iteration; None without any problem."""
    ordered = sorted(levels, key=lambda level: ORDER.index(level.level))
    whole = sum(level.problems for level in ordered)
    if not whole:
        return None
    samples = sum(level.re_samples for level in ordered)
    pairs = sum(level.pairs for level in ordered)
    room = HEIGHT - _GAP * (len(ordered) - 1)
    source = _stack(0, [(row.level, row.problems, HEIGHT * row.problems / whole) for row in ordered], 0)
    labelled = _stack(1, [(row.level, row.problems, room * row.problems / whole) for row in ordered], _GAP)
    drawn = _stack(
        2,
        [(row.level, row.re_samples, room * row.re_samples / samples) for row in ordered if row.re_samples],
        _GAP,
    )
    # a pair has two samples: the last bar is as high as the share of samples that pairs use, at most
    used = min(1.0, 2 * pairs / samples) if samples else 1.0
    paired = _stack(
        3, [(row.level, row.pairs, room * used * row.pairs / pairs) for row in ordered if row.pairs], _GAP
    )
    bands = [
        Band(left.level, _band(left, right))
        for lefts, rights in ((source, labelled), (labelled, drawn), (drawn or labelled, paired))
        for left in lefts
        for right in rights
        if left.level == right.level
    ]
    return Flow([*source, *labelled, *drawn, *paired], bands)


def _stack(column: int, parts: Sequence[tuple[str, int, float]], gap: float) -> list[Block]:
    """Return blocks below each other, in the middle of the height."""
    y = (HEIGHT - sum(height for _, _, height in parts) - gap * max(0, len(parts) - 1)) / 2
    blocks = []
    for level, number, height in parts:
        blocks.append(Block(level, _COLUMNS[column], y, max(height, 1.0), number))
        y += height + gap
    return blocks


def _band(left: Block, right: Block) -> str:
    start, end = left.x + _BAR, right.x
    middle = (start + end) / 2
    top = f"M{start:g} {left.y:.1f}C{middle:g} {left.y:.1f} {middle:g} {right.y:.1f} {end:g} {right.y:.1f}"
    low_left, low_right = left.y + left.height, right.y + right.height
    back = f"V{low_right:.1f}C{middle:g} {low_right:.1f} {middle:g} {low_left:.1f} {start:g} {low_left:.1f}Z"
    return top + back
