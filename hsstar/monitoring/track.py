"""Follows the rows of a run and sends what is new to trackers, each at its own pace.

The run knows nothing of it. A tracker that is away is tried again; opened anew, it says what it has, and gets
what is missing.
"""

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from hsstar.domain.errors import BadInputError, DatabaseError, MissingDependencyError
from hsstar.insights.progress import run_progress
from hsstar.monitoring.trackers.contract import Axis, LastSteps, Point, TrackedRun, Tracker
from hsstar.store import models
from hsstar.store.database import Database
from hsstar.store.read import tracking
from hsstar.store.runs import Run

TrackerName = Literal["trackio", "wandb", "mlflow", "tensorboard"]

TRACKERS: Mapping[TrackerName, str] = {
    "trackio": "TrackioTracker",
    "wandb": "WandbTracker",
    "mlflow": "MlflowTracker",
    "tensorboard": "TensorboardTracker",
}
"""The class of each tracker; its module has its name."""

_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 300.0
_AT_ONCE = 1_000
_NO_METRICS = {"iteration", "step", "started_at", "finished_at", "recorded_at"}

Say = Callable[[str], None]
Open = Callable[[], Tracker]
OpenFor = Callable[[TrackedRun], Tracker]


def tracker_classes(names: Sequence[TrackerName]) -> dict[str, OpenFor]:
    """Import trackers by their names.

    Raise MissingDependencyError with the extra of one whose library is not installed, BadInputError for a
    name that is none.
    """
    return {name: _tracker_class(name) for name in dict.fromkeys(names)}


def _tracker_class(name: TrackerName) -> OpenFor:
    if name not in TRACKERS:
        raise BadInputError(f"there is no tracker {name!r}; it must be one of {', '.join(TRACKERS)}")
    try:
        module = import_module(f"hsstar.monitoring.trackers.{name}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"the tracker {name} needs {error.name}: pip install 'hsstar[{name}]'"
        ) from None
    chosen: OpenFor = getattr(module, TRACKERS[name])
    return chosen


def describe(database: Database, run: Run, project: str, folder: Path) -> TrackedRun:
    """Return a run as trackers know it."""
    with database.begin() as connection:
        origin = models.database_id(connection)
    return TrackedRun(run.name, f"{origin[:8]}-{run.id}", project, run.recipe.document(), folder)


def new_points(database: Database, run: Run, last: LastSteps) -> list[Point]:
    """Return what a run has behind the last steps of a tracker, in the order of steps on each axis."""
    with database.begin() as connection:
        iterations = tracking.iterations_done(connection, run, last.get(Axis.ITERATION, -1))
        policies = tracking.policies_measured(connection, run, last.get(Axis.POLICY, -1))
        steps = tracking.optimiser_steps(connection, run, last.get(Axis.TRAINING, 0), _AT_ONCE)
    return [
        *(
            Point(Axis.ITERATION, row["iteration"], row["finished_at"], _named(Axis.ITERATION, row))
            for row in iterations
        ),
        *(
            Point(Axis.POLICY, rows[0].policy, max(row.finished_at for row in rows), dict(_accuracies(rows)))
            for rows in policies
        ),
        *(Point(Axis.TRAINING, row["step"], row["recorded_at"], _named(Axis.TRAINING, row)) for row in steps),
    ]


@dataclass
class Follower:
    """Sends the points of a run to one tracker, until the run has ended and all of them are sent."""

    name: str
    open: Open
    read: Callable[[LastSteps], list[Point]]
    ended: Callable[[], bool]
    say: Say
    stopping: threading.Event
    sent: int = 0
    failures: int = 0
    _tracker: Tracker | None = None
    _last: LastSteps | None = None

    def run(self) -> None:
        """Follow; errors of the tracker and of the database are said, and tried again."""
        while not self.stopping.is_set():
            try:
                # before the look at the rows: what is there at the end is then sent
                ended = self.ended()
                if not self._send() and ended:
                    break
                pause = 0.0 if ended else _PAUSE_SECONDS
            except DatabaseError as error:
                pause = self._say_failure(f"{error}")
            except Exception as error:  # each library has its own
                self._drop()
                pause = self._say_failure(
                    f"{self.name} takes nothing ({type(error).__name__}: {_line(error)})"
                )
            self.stopping.wait(pause)
        self._drop()

    def _send(self) -> int:
        if self._tracker is None:
            self._tracker = self.open()
            self._last = self._tracker.last_steps()
        assert self._last is not None  # noqa: S101  # set with the tracker
        points = self.read(self._last)
        if points:
            self._tracker.log(points)
            self._last |= {point.axis: point.step for point in points}
            self.sent += len(points)
        if self.failures:
            self.say(f"{self.name} takes points again")
            self.failures = 0
        return len(points)

    def _say_failure(self, text: str) -> float:
        self.failures += 1
        pause = min(_LONGEST_PAUSE_SECONDS, _PAUSE_SECONDS * 2.0 ** (self.failures - 1))
        self.say(f"{text}; it is tried again in {pause:g} s")
        return pause

    def _drop(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            try:
                tracker.close()
            except Exception as error:  # each library has its own
                self.say(f"{self.name} could not be closed ({type(error).__name__}: {_line(error)})")


def track_run(
    database: Database,
    run: Run,
    classes: Mapping[str, OpenFor],
    project: str,
    folder: Path,
    say: Say,
    *,
    once: bool,
) -> dict[str, int]:
    """Send a run to trackers of these classes, as `follow` does; files of theirs go to the folder."""
    described = describe(database, run, project, folder)
    trackers = {name: partial(opening, described) for name, opening in classes.items()}
    return follow(database, run, trackers, say, once=once)


def follow(
    database: Database, run: Run, trackers: Mapping[str, Open], say: Say, *, once: bool
) -> dict[str, int]:
    """Send a run to trackers until it has ended, or `once`; return how many points each of them got."""
    stopping = threading.Event()

    def ended() -> bool:
        return once or run_progress(database, run).state in ("done", "held")

    followers = [
        Follower(name, opening, lambda last: new_points(database, run, last), ended, say, stopping)
        for name, opening in trackers.items()
    ]
    threads = [threading.Thread(target=follower.run, name=follower.name) for follower in followers]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        stopping.set()
    return {follower.name: follower.sent for follower in followers}


def _named(axis: Axis, row: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a row by the names of its columns."""
    return {
        f"{axis}/{column}": float(value)
        for column, value in row.items()
        if column not in _NO_METRICS and value is not None and not isinstance(value, str)
    }


def _accuracies(rows: Sequence[Any]) -> Iterator[tuple[str, float]]:
    for row in rows:
        name = f"{Axis.POLICY}/{re.sub(r'[^A-Za-z0-9_. /-]', '_', row.measure)}"
        yield f"{name}/accuracy", row.accuracy
        if row.standard_error is not None:
            yield f"{name}/standard_error", row.standard_error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
