"""The files through which `up`, `status` and the supervisor share what should run and what runs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hsstar.local.files import read_json
from hsstar.local.processes import ProcessIdentity

Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerSpec:
    """One worker process that should run."""

    name: str
    role: str
    argv: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of the supervisor's own


@dataclass(frozen=True)
class StackSpec:
    """What the supervisor of one home keeps running. It holds no secrets: URLs are in its environment."""

    workers: Sequence[WorkerSpec]
    servers: Sequence[str]  # names of the embedded ones
    grace_seconds: float  # between SIGTERM and SIGKILL

    def workers_by_role(self) -> dict[str, int]:
        """Count the workers of each role."""
        return dict(Counter(worker.role for worker in self.workers))


def read_spec(path: Path) -> StackSpec | None:
    """Read the spec in this file; None if it is missing or damaged."""

    def build(entries: Any) -> StackSpec:
        return StackSpec(**entries | {"workers": [WorkerSpec(**worker) for worker in entries["workers"]]})

    return _read(path, build)


@dataclass(frozen=True)
class WorkerState:
    """A worker as the supervisor last saw it."""

    name: str
    role: str
    process: ProcessIdentity | None  # None while it waits for its next start
    restarts: int

    @property
    def pid(self) -> int | None:
        """The pid of its process."""
        return None if self.process is None else self.process.pid


@dataclass(frozen=True)
class StackState:
    """The supervisor and its workers as the supervisor last saw them."""

    supervisor: ProcessIdentity
    workers: tuple[WorkerState, ...]


def read_state(path: Path) -> StackState | None:
    """Read the state in this file; None if it is missing or damaged."""

    def worker(entry: Any) -> WorkerState:
        return WorkerState(**entry | {"process": entry["process"] and ProcessIdentity(**entry["process"])})

    def build(entries: Any) -> StackState:
        return StackState(
            ProcessIdentity(**entries["supervisor"]), tuple(worker(entry) for entry in entries["workers"])
        )

    return _read(path, build)


def _read(path: Path, build: Callable[[Any], Result]) -> Result | None:
    entries = read_json(path)
    try:
        return None if entries is None else build(entries)
    except (KeyError, TypeError, ValueError):
        return None


def specify_workers(
    counts: Mapping[str, int],
    command: Callable[[str, str], Sequence[str]],
    role_environment: Mapping[str, Mapping[str, str]],
) -> list[WorkerSpec]:
    """Specify workers of each role, named `<role>-1`, `<role>-2` …; arguments as of `Stack.up`."""
    named = [(role, f"{role}-{number}") for role, count in counts.items() for number in range(1, count + 1)]
    return [
        WorkerSpec(name, role, command(role, name), role_environment.get(role, {})) for role, name in named
    ]
