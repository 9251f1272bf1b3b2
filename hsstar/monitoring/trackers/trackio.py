"""Trackio: a run in its local store (TRACKIO_DIR), or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says.

Trackio sends in a thread of its own and says nothing of what does not arrive. What is there can be read from
the local store only.
"""

from collections.abc import Sequence

import trackio
from trackio.sqlite_storage import SQLiteStorage

from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point, TrackedRun


class TrackioTracker:
    """A run of Trackio, found by its name."""

    def __init__(self, run: TrackedRun) -> None:
        self._project, self._name = run.project, f"{run.name}-{run.key[:6]}"
        self._last = self._read()
        self._run = trackio.init(
            project=run.project, name=self._name, config=run.config, resume="allow", embed=False,
            auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def _read(self) -> LastSteps:
        if not SQLiteStorage.get_project_db_path(self._project).exists():
            return {}
        last: LastSteps = {}
        for row in SQLiteStorage.get_logs(self._project, self._name):
            for axis in {Axis(name.partition("/")[0]) for name in row if "/" in name}:
                last[axis] = max(last.get(axis, 0), int(row["step"]))
        return last

    def last_steps(self) -> LastSteps:
        """Return what the local store had when the run was opened."""
        return self._last

    def log(self, points: Sequence[Point]) -> None:
        """Hand points to Trackio's sender."""
        for point in points:
            self._run.log(dict(point.metrics), step=point.step)

    def close(self) -> None:
        """Wait until they are sent."""
        self._run.finish()
