"""Kill anything, any time: the run ends by itself with the rows of an undisturbed one.

Scenario number N is decided by N alone: what goes wrong and at which share of the time that an undisturbed
run takes. `CHAOS_SCENARIOS=500 make test-chaos` runs more of them.
"""

import os
import random
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.chaos.disturbances import DISTURBANCES, FROM_THE_START
from tests.chaos.snapshot import Snapshot, snapshot
from tests.chaos.stack import WORKERS, ChaosStack, chaos_stack

SCENARIOS = int(os.environ.get("CHAOS_SCENARIOS", "54"))
_PER_STACK = 9
"""Scenarios on one stack: a supervisor restarts what dies often ever more slowly."""
_MOST = 3

pytestmark = pytest.mark.chaos


class Event(NamedTuple):
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


class Undisturbed(NamedTuple):
    stack: ChaosStack
    expected: Snapshot
    seconds: float


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest) -> Iterator[Undisturbed]:
    """The stack of a group of scenarios, and what a run comes to that nothing disturbs."""
    with chaos_stack() as stack:
        stack.wait_for(lambda: len(stack.workers()) == sum(WORKERS.values()), "the workers")
        started = time.monotonic()
        run = stack.start_run()
        stack.wait_until_done(run)
        seconds = time.monotonic() - started
        with stack.connection() as connection:
            expected = snapshot(connection, run)
        yield Undisturbed(stack, expected, seconds)


def _group(number: int) -> int:
    return number // _PER_STACK


@pytest.mark.parametrize(
    ("undisturbed", "number"),
    [
        pytest.param(_group(n), n, id=str(n), marks=pytest.mark.xdist_group(f"chaos-{_group(n)}"))
        for n in range(SCENARIOS)
    ],
    indirect=["undisturbed"],
)
def test_whatever_happens_the_rows_are_those_of_an_undisturbed_run(
    undisturbed: Undisturbed, number: int
) -> None:
    stack, expected, seconds = undisturbed
    events = scenario(number)
    if not stack.small_disk:  # who may mount none has another disturbance instead
        instead = {"fill the disk": "restart postgres"}
        events = [Event(instead.get(name, name), at) for name, at in events]
    generator = random.Random(number)
    (stack.stack.home / "delivery").write_text("once")
    run = stack.start_run()
    started = time.monotonic()
    for name, at in events:
        time.sleep(max(0.0, at * seconds - (time.monotonic() - started)))
        DISTURBANCES[name](stack, generator)
    stack.wait_until_done(run)
    with stack.connection() as connection:
        found = snapshot(connection, run)
    for table, rows in expected.items():
        assert found[table] == rows, f"{table} differ after {events}"
