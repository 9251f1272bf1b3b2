"""Kill anything, any time: the run ends by itself with the rows of an undisturbed one.

Scenario number N is decided by N alone: what goes wrong and at which share of the time that an undisturbed
run takes. `CHAOS_SCENARIOS=500 make test-chaos` runs more of them.
"""

import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.chaos.disturbances import DISTURBANCES, FROM_THE_START
from tests.chaos.snapshot import Snapshot, snapshot
from tests.chaos.stack import ChaosStack, chaos_stack

SCENARIOS = int(os.environ.get("CHAOS_SCENARIOS", "54"))
_PER_STACK = 9
"""Scenarios on one stack: a supervisor restarts what dies often ever more slowly."""
_MOST = 3

pytestmark = pytest.mark.chaos


@dataclass(frozen=True)
class Event:
    """A disturbance and its time, as a share of an undisturbed run."""

    name: str
    at: float


def scenario(number: int) -> list[Event]:
    """The disturbances of a scenario, in order. Every kind comes first in one of so many scenarios."""
    generator = random.Random(number)
    names = [list(DISTURBANCES)[number % len(DISTURBANCES)]]
    names += generator.sample(list(DISTURBANCES), generator.randint(0, _MOST - 1))
    events = [Event(name, 0.0 if name in FROM_THE_START else generator.random()) for name in names]
    return sorted(events, key=lambda event: event.at)


@dataclass
class Undisturbed:
    stack: ChaosStack
    expected: Snapshot
    seconds: float


class Stacks:
    def __init__(self) -> None:
        self._group: int | None = None
        self._open: Iterator[Undisturbed] | None = None
        self._current: Undisturbed | None = None

    def of_group(self, group: int) -> Undisturbed:
        """The stack of a group of scenarios; that of another one is taken down."""
        if group != self._group or self._current is None:
            self.close()
            self._open = _undisturbed()
            self._current = next(self._open)
            self._group = group
        return self._current

    def close(self) -> None:
        if self._open is not None:
            self._current, opened, self._open = None, self._open, None
            next(opened, None)


def _undisturbed() -> Iterator[Undisturbed]:
    with chaos_stack() as stack:
        stack.wait_for(lambda: len(stack.workers()) == 6, "the workers")
        started = time.monotonic()
        run = stack.start_run()
        stack.wait_until_done(run)
        seconds = time.monotonic() - started
        with stack.connection() as connection:
            expected = snapshot(connection, run)
        yield Undisturbed(stack, expected, seconds)


@pytest.fixture(scope="session")
def stacks() -> Iterator[Stacks]:
    made = Stacks()
    yield made
    made.close()


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(number, marks=pytest.mark.xdist_group(f"chaos-{number // _PER_STACK}"))
        for number in range(SCENARIOS)
    ],
)
def test_whatever_happens_the_rows_are_those_of_an_undisturbed_run(stacks: Stacks, number: int) -> None:
    undisturbed = stacks.of_group(number // _PER_STACK)
    stack = undisturbed.stack
    events = scenario(number)
    if not stack.small_disk:  # who may mount none has another disturbance instead
        instead = {"fill the disk": "restart postgres"}
        events = [Event(instead.get(event.name, event.name), event.at) for event in events]
    generator = random.Random(number)
    (stack.stack.home / "delivery").write_text("once")
    run = stack.start_run()
    started = time.monotonic()
    for event in events:
        time.sleep(max(0.0, event.at * undisturbed.seconds - (time.monotonic() - started)))
        DISTURBANCES[event.name](stack, generator)
    stack.wait_until_done(run)
    with stack.connection() as connection:
        found = snapshot(connection, run)
    for name, rows in undisturbed.expected.items():
        assert found[name] == rows, f"{name} differ after {events}"
