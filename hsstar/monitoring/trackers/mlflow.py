"""MLflow: a run in the experiment of the project, at MLFLOW_TRACKING_URI or in its local store.

Points carry the times of the rows, and tags say how far they have come. What is sent twice is equal, and
MLflow's databases keep one of two equal points.
"""

from collections.abc import Sequence

from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point, TrackedRun

_KEY = "hsstar.run"
_LAST = "hsstar.last."
_AT_ONCE = 1_000  # metrics, MLflow's limit for a batch
_PARAMETER_CHARACTERS = 500


class MlflowTracker:
    """A run of MLflow, found by a tag."""

    def __init__(self, run: TrackedRun) -> None:
        self._client = MlflowClient()
        self._id = self._find(run) or self._create(run)

    def _experiment(self, name: str) -> str:
        known = self._client.get_experiment_by_name(name)
        return str(known.experiment_id if known is not None else self._client.create_experiment(name))

    def _find(self, run: TrackedRun) -> str | None:
        matching = f"tags.`{_KEY}` = '{run.key}'"
        runs = self._client.search_runs([self._experiment(run.project)], matching, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def _create(self, run: TrackedRun) -> str:
        experiment = self._experiment(run.project)
        created = self._client.create_run(experiment, tags={_KEY: run.key}, run_name=run.name)
        parameters = [
            Param(f"{section}.{key}", str(value)[:_PARAMETER_CHARACTERS])
            for section, keys in run.config.items()
            if isinstance(keys, dict)
            for key, value in keys.items()
        ]
        self._client.log_batch(created.info.run_id, params=parameters[:100])
        return str(created.info.run_id)

    def last_steps(self) -> LastSteps:
        """Read the tags that `log` sets."""
        tags = self._client.get_run(self._id).data.tags
        return {axis: int(tags[_LAST + axis]) for axis in Axis if _LAST + axis in tags}

    def log(self, points: Sequence[Point]) -> None:
        """Send points, then say by tags which."""
        metrics = [
            Metric(name, value, round(point.at.timestamp() * 1000), point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        for start in range(0, len(metrics), _AT_ONCE):
            self._client.log_batch(self._id, metrics=metrics[start : start + _AT_ONCE])
        last = {point.axis: str(point.step) for point in points}
        self._client.log_batch(self._id, tags=[RunTag(_LAST + axis, step) for axis, step in last.items()])

    def close(self) -> None:
        """Mark the run as finished; more points may come."""
        self._client.set_terminated(self._id)
