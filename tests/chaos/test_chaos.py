"""Kill anything, any time: the run ends by itself with the rows of an undisturbed one.

Scenario number N is decided by N alone: what goes wrong and at which share of the time that an undisturbed
run takes. `CHAOS_SCENARIOS=500 make test-chaos` runs more of them.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.chaos.disturbances import DISTURBANCES, FROM_THE_START
from tests.chaos.stack import HELD_OUT, ITERATIONS, PROBLEMS, WORKERS, ChaosStack, chaos_stack

SCENARIOS = int(os.environ.get("CHAOS_SCENARIOS", "58"))
_PER_STACK = 9
"""Scenarios on one stack: a supervisor restarts what dies often ever more slowly."""
_QUERIES = {file.stem: file.read_text() for file in (Path(__file__).parent / "rows").glob("*.sql")}
"""What a run has made, by what names it in every database."""

Snapshot = dict[str, list[tuple[Any, ...]]]
pytestmark = pytest.mark.chaos


class Event(NamedTuple):
    """A disturbance and its time, as a share of an undisturbed run."""

    name: str
    at: float


def scenario(number: int) -> list[Event]:
    """The disturbances of a scenario, in order. Every kind comes first in one of so many scenarios."""
    generator = random.Random(number)
    names = [list(DISTURBANCES)[number % len(DISTURBANCES)]]
    names += generator.sample(list(DISTURBANCES), generator.randint(0, 2))
    events = [Event(name, 0.0 if name in FROM_THE_START else generator.random()) for name in names]
    return sorted(events, key=lambda event: event.at)


def snapshot(stack: ChaosStack, run: str) -> Snapshot:
    """Everything of a run that must not depend on what happened on the way."""
    of_run = "WHERE run_id = (SELECT id FROM runs WHERE name = %s)"
    found = {
        table: sorted(stack.rows(f"{query} {of_run}", run), key=repr) for table, query in _QUERIES.items()
    }
    check_jobs(found.pop("jobs"))
    check_budget(found)
    return found


def check_budget(found: Snapshot) -> None:
    """Exactly the budget, each slot below its allotment once, each with verdict and reward."""
    slots = Counter(sample[:3] for sample in found["samples"])
    assert slots == Counter({problem[:3]: problem[4] for problem in found["problems"]})
    assert Counter(sample[:2] for sample in found["samples"]) == Counter(
        {("iteration", number): 6 * PROBLEMS for number in range(ITERATIONS)}
        | {("evaluation", number): HELD_OUT for number in range(ITERATIONS + 1)}
    )
    assert all(cause is not None for *_, cause, _, _, _, _ in found["samples"])
    assert len([sample for sample in found["samples"] if sample[-2]]) == 6 * PROBLEMS * ITERATIONS
    assert len([problem for problem in found["problems"] if problem[6]]) == PROBLEMS * ITERATIONS
    assert found["pairs"]
    assert found["trainings"] == [(number, True) for number in range(ITERATIONS)]


def check_jobs(rows: list[tuple[Any, ...]]) -> None:
    """Every job has ended well, and no address stands in two jobs of a kind."""
    assert {state for state, *_ in rows} == {"done"}
    addresses = Counter(row[1:] for row in rows)
    assert max(addresses.values()) == 1, addresses.most_common(3)


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
        yield Undisturbed(stack, snapshot(stack, run), seconds)


@pytest.mark.parametrize(
    ("undisturbed", "number"),
    [
        pytest.param(group, n, id=str(n), marks=pytest.mark.xdist_group(f"chaos-{group}"))
        for n in range(SCENARIOS)
        for group in [n // _PER_STACK]
    ],
    indirect=["undisturbed"],
)
def test_whatever_happens_the_rows_are_those_of_an_undisturbed_run(
    undisturbed: Undisturbed, number: int
) -> None:
    stack, expected, seconds = undisturbed
    events = scenario(number)
    # who may not mount, set a clock or limit memory has another disturbance instead
    possible = {
        "fill the disk": stack.small_disk,
        "set the clock": stack.clock is not None,
        "starve a trainer": stack.small_memory is not None,
    }
    events = [Event(name if possible.get(name, True) else "restart postgres", at) for name, at in events]
    generator = random.Random(number)
    (stack.stack.home / "delivery").write_text("once")
    run = stack.start_run()
    started = time.monotonic()
    for name, at in events:
        time.sleep(max(0.0, at * seconds - (time.monotonic() - started)))
        DISTURBANCES[name](stack, generator)
    stack.wait_until_done(run)
    found = snapshot(stack, run)
    for table, rows in expected.items():
        assert found[table] == rows, f"{table} differ after {events}"
