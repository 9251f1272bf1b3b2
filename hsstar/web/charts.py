"""Charts as SVG: this computes where things are; the templates draw them, so that pages need no script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_MOST_POINTS = 400
"""Of a line; more do not show on a screen."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar: where it begins and how wide it is, as shares of the width."""

    name: str  # also its class in the style sheet
    value: float
    start: float
    width: float


def stack(parts: Sequence[tuple[str, float]], whole: float | None = None) -> list[Part]:
    """Return parts beside each other; `whole` is what the full width stands for, by default their sum."""
    total = whole or sum(value for _, value in parts) or 1.0
    placed, start = [], 0.0
    for name, value in parts:
        if value:
            placed.append(Part(name, value, start, value / total))
            start += value / total
    return placed


@dataclass(frozen=True, slots=True)
class Line:
    """A line in a box of 100 × 100, y downwards; its first and last value, and the bounds of y."""

    name: str  # also its class in the style sheet
    label: str
    points: str  # as SVG's `points`
    last_x: float
    last_y: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Plot:
    """Lines over the same axes."""

    lines: list[Line]
    low: float
    high: float
    x_low: float
    x_high: float
    values: int = 0  # points in all, before thinning


Series = Sequence[tuple[float, float | None]]
"""Points (x, y); None where a value is missing."""
Counts = Mapping[str, Sequence[int]]
"""How much each series has in each column."""


def plot(series: Mapping[str, Series], labels: Mapping[str, str] | None = None) -> Plot | None:
    """Return lines over common axes, labelled by their names or by `labels`; None without any point."""
    known = {
        name: [(x, y) for x, y in points if y is not None and y - y == 0]  # neither infinite nor NaN
        for name, points in series.items()
    }
    every = [point for points in known.values() for point in points]
    if not every:
        return None
    bottom, top = min(y for _, y in every), max(y for _, y in every)
    if top == bottom:
        bottom, top = bottom - (abs(bottom) or 1.0) / 10, top + (abs(top) or 1.0) / 10
    left, right = min(x for x, _ in every), max(x for x, _ in every)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        across = 50.0 if right == left else 100 * (x - left) / (right - left)
        return round(across, 2), round(100 * (top - y) / (top - bottom), 2)

    lines = []
    for name, points in known.items():
        if points:
            placed = [place(point) for point in thinned(points)]
            text = " ".join(f"{x:g},{y:g}" for x, y in placed)
            label = (labels or {}).get(name, name)
            lines.append(Line(name, label, text, *placed[-1], points[0][1], points[-1][1]))
    return Plot(lines, bottom, top, left, right, len(every))


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most a few hundred points: of each stretch its lowest and its highest, so peaks stay."""
    if len(points) <= _MOST_POINTS:
        return list(points)
    stretch = len(points) / (_MOST_POINTS // 2)
    chosen: list[tuple[float, float]] = [points[0]]
    for number in range(_MOST_POINTS // 2):
        part = points[int(number * stretch) : int((number + 1) * stretch)]
        ends = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        chosen += sorted(ends)
    return [*chosen, points[-1]]


@dataclass(frozen=True, slots=True)
class Block:
    """What one series has in a column: its place and size as shares of the plot, y downwards."""

    name: str
    value: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a histogram: its place as shares of the width, and what stands in it."""

    start: float
    width: float
    label: str
    blocks: list[Block]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Columns on an axis; the series below it, if any, hang from it."""

    columns: list[Column]
    names: list[str]
    axis: float  # its height, as a share, y downwards
    total: int


def histogram(labels: Sequence[str], above: Counts, below: Counts | None = None) -> Histogram:
    """Return columns, one per label: the series of `above` on each other, those of `below` under the axis."""
    under = below or {}
    up = [sum(series[number] for series in above.values()) for number in range(len(labels))]
    down = [sum(series[number] for series in under.values()) for number in range(len(labels))]
    highest = max([*up, *down], default=0) or 1
    axis = 0.5 if under else 1.0
    columns = []
    for number, label in enumerate(labels):
        blocks, y = [], axis
        for name, series in above.items():
            height = axis * series[number] / highest
            y -= height
            blocks.append(Block(name, series[number], y, height))
        y = axis
        for name, series in under.items():
            height = (1 - axis) * series[number] / highest
            blocks.append(Block(name, series[number], y, height))
            y += height
        columns.append(Column(number / len(labels), 1 / len(labels), label, [b for b in blocks if b.value]))
    return Histogram(columns, [*above, *under], axis, sum(up) + sum(down))
