"""Draw a study: accuracy by policy, and the paired difference to the reference."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hsstar.study.document import Study
from hsstar.study.metrics import StrategyMetrics

_SPREAD = 0.03
"""Distance between the points of neighbouring strategies, in iterations."""
_DOTS_PER_INCH = 120


def draw(study: Study, strategies: Sequence[StrategyMetrics], folder: Path) -> list[Path]:
    """Draw NAME.png and NAME.svg into a folder; return their paths. Equal figures give equal bytes."""
    name = study.document.name
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(12, max(4, 0.28 * len(strategies))), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_accuracies(left, strategies)
        _draw_differences(right, study, strategies)
        figure.savefig(paths[0], dpi=_DOTS_PER_INCH)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths


def _draw_accuracies(axes: Axes, strategies: Sequence[StrategyMetrics]) -> None:
    colours = colormaps["tab20" if len(strategies) > 10 else "tab10"]
    for place, strategy in enumerate(strategies):
        shift = _SPREAD * (place - (len(strategies) - 1) / 2)
        axes.errorbar(
            [t + shift for t in range(len(strategy.accuracies))],
            [mean.value for mean in strategy.accuracies],
            yerr=[mean.standard_error or 0 for mean in strategy.accuracies],
            color=colours(place % colours.N),
            marker="o",
            markersize=3,
            capsize=2,
            label=strategy.strategy,
        )
    axes.set_xticks(range(len(strategies[0].accuracies)))
    axes.set_xlabel("policy M_t")
    axes.set_ylabel("held-out accuracy, mean ± standard error")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside the lines, in a box: a list of its own


def _draw_differences(axes: Axes, study: Study, strategies: Sequence[StrategyMetrics]) -> None:
    compared = [strategy for strategy in strategies if strategy.strategy != study.document.reference]
    for place, strategy in enumerate(compared):
        last = strategy.differences[-1]
        low = last.mean.value if last.low is None else last.low
        high = last.mean.value if last.high is None else last.high
        axes.plot([100 * low, 100 * high], [place, place], color="tab:gray")
        axes.plot([100 * last.mean.value], [place], marker="o", color="tab:blue")
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(compared)), [strategy.strategy for strategy in compared])
    axes.invert_yaxis()
    axes.set_xlabel(
        f"accuracy of M_{study.document.iterations} minus that of {study.document.reference}, points "
        f"({study.document.confidence:.0%} interval)"
    )
