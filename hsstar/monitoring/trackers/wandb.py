"""Weights & Biases: a run whose id follows from hsstar's, online or offline as WANDB_MODE says.

An offline run cannot be asked what it has, so a file beside its own says how far the points have come. If the
process dies between the two, the last points come again: at the same steps, which a plot shows as one.
"""

import json
from collections.abc import Sequence

import wandb

from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point, TrackedRun


class WandbTracker:
    """A run of Weights & Biases; each axis is a metric that the others are drawn over."""

    def __init__(self, run: TrackedRun) -> None:
        folder = run.folder / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._notes = folder / f"{run.key}.json"
        self._run = wandb.init(
            project=run.project, name=run.name, id=run.key, resume="allow", config=run.config, dir=run.folder,
            settings=wandb.Settings(
                console="off", silent=True, x_disable_stats=True, x_disable_machine_info=True
            ),
        )  # fmt: skip
        for axis in Axis:
            self._run.define_metric(f"{axis}/step")
            self._run.define_metric(f"{axis}/*", step_metric=f"{axis}/step")

    def last_steps(self) -> LastSteps:
        """Return the later of what the file says and what the server has."""
        noted = json.loads(self._notes.read_text()) if self._notes.exists() else {}
        last: LastSteps = {}
        for axis in Axis:
            steps = [
                step for step in (noted.get(axis), self._run.summary.get(f"{axis}/step")) if step is not None
            ]
            if steps:
                last[axis] = max(map(int, steps))
        return last

    def log(self, points: Sequence[Point]) -> None:
        """Hand points to the sender of the library, then note which."""
        last = self.last_steps()
        for point in points:
            self._run.log({**point.metrics, f"{point.axis}/step": point.step})
            last[point.axis] = point.step
        aside = self._notes.with_suffix(".new")
        aside.write_text(json.dumps(last))
        aside.replace(self._notes)

    def close(self) -> None:
        """Wait until they are sent, or lie in the file of an offline run."""
        self._run.finish()
