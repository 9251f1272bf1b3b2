"""TensorBoard: event files below the tracking folder, which are read back to see what is there."""

from collections.abc import Sequence

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point, TrackedRun


class TensorboardTracker:
    """A folder of event files."""

    def __init__(self, run: TrackedRun) -> None:
        folder = run.folder / "tensorboard" / f"{run.name}-{run.key[:6]}"
        folder.mkdir(parents=True, exist_ok=True)
        self._last = _read(str(folder))
        self._writer = EventFileWriter(str(folder))

    def last_steps(self) -> LastSteps:
        """Return what the files had when they were opened."""
        return self._last

    def log(self, points: Sequence[Point]) -> None:
        """Write points, so that they lie in the file afterwards."""
        for point in points:
            values = [Summary.Value(tag=name, simple_value=value) for name, value in point.metrics.items()]
            event = Event(wall_time=point.at.timestamp(), step=point.step, summary=Summary(value=values))
            self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def _read(folder: str) -> LastSteps:
    present = EventAccumulator(folder, size_guidance={"scalars": 1})  # the last point of each name
    present.Reload()
    last: LastSteps = {}
    for name in present.Tags()["scalars"]:
        axis = Axis(name.partition("/")[0])
        last[axis] = max(last.get(axis, 0), *(event.step for event in present.Scalars(name)))
    return last
