"""Draws simulated fleets: busy samplers, load of Postgres, load of the broker, storage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DOTS_PER_INCH = 120

Row = Mapping[str, Any]


def draw(figures: Mapping[str, Any], path: Path) -> None:
    """Draw PATH.png and PATH.svg; equal figures give equal bytes."""
    rows: Sequence[Row] = figures["fleets"]
    names = list(dict.fromkeys(row["engines"] for row in rows))
    sizes = sorted({row["samples"] for row in rows})
    with rc_context({"svg.hashsalt": path.name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11, 7), layout="constrained")
        axes = figure.subplots(2, 2)
        for name, place in zip(names, axes[0], strict=True):
            for size in sizes:
                _line(place, rows, f"{size:.0e} samples", "busy", engines=name, samples=size)
            place.set_title(f"samplers that compute, policy of {name}")
            place.set_ylim(0, 1.02)
            place.legend()
        load, storage = axes[1]
        for name in names:
            for key, what in (
                ("database_cores", "cores of Postgres"),
                ("broker_share", "core of the broker"),
            ):
                _line(load, rows, f"{what}, {name}", key, engines=name, samples=sizes[-2])
        load.set_yscale("log")
        load.set_title(f"load, {sizes[-2]:.0e} samples")
        load.legend()
        _draw_storage(storage, rows, sizes)
        figure.savefig(path.with_suffix(".png"), dpi=_DOTS_PER_INCH)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})


def _line(axes: Axes, rows: Sequence[Row], label: str, key: str, **only: object) -> None:
    chosen = [row for row in rows if all(row[name] == value for name, value in only.items())]
    workers, values = [row["workers"] for row in chosen], [row[key] for row in chosen]
    axes.plot(workers, values, marker="o", markersize=3, label=label)
    axes.set_xscale("log")
    axes.set_xlabel("workers")


def _draw_storage(axes: Axes, rows: Sequence[Row], sizes: Sequence[int]) -> None:
    for key, label in (
        ("storage_gigabytes", "rows and indices, GB"),
        ("broker_megabytes", "messages in the broker at the peak, MB"),
    ):
        largest = [max(row[key] for row in rows if row["samples"] == size) for size in sizes]
        axes.plot(sizes, largest, marker="o", markersize=3, label=label)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("samples")
    axes.set_title("storage, largest of all fleets")
    axes.legend()
