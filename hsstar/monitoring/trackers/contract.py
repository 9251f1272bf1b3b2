"""What a tracker is given, and what it does."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol


class Axis(StrEnum):
    """What the steps of a point count; the names of its metrics begin with it."""

    ITERATION = "iteration"
    POLICY = "policy"  # t of M_t
    TRAINING = "training"  # optimiser steps of the run so far


@dataclass(frozen=True, slots=True)
class Point:
    """Figures at one step of an axis, never empty; each name begins with the axis and a slash."""

    axis: Axis
    step: int
    at: datetime
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as trackers know it."""

    name: str
    key: str  # unique among all databases, always the same for this run
    project: str  # the experiment or project of the tracker
    config: dict[str, Any]  # the recipe
    folder: Path  # for what a tracker keeps in files


LastSteps = dict[Axis, int]


class Tracker(Protocol):
    """A run in a tracker; opened again, it is the same one. Any method may raise what its library raises."""

    def last_steps(self) -> LastSteps:
        """Return the last step of each axis that the tracker has."""

    def log(self, points: Sequence[Point]) -> None:
        """Add points, in the order of their steps on each axis."""

    def close(self) -> None:
        """Send what is not sent yet, and let the run be."""
