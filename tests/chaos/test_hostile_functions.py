"""Functions of users do their worst while workers die: a run beside them does not notice.

Two runs share the workers of a stack. One is judged by `hostile_check`, the other as mathematics; both come
to the rows of the same two runs that nothing disturbed.
"""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from tests.chaos import hostile_check
from tests.chaos.disturbances import DISTURBANCES
from tests.chaos.stack import WORKERS, ChaosStack, chaos_recipe, chaos_stack
from tests.chaos.test_chaos import Event, Snapshot, snapshot

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("chaos-hostile")]
SCENARIOS = {
    "verify workers": [Event("kill a verify worker", at / 8) for at in range(1, 8)],
    "all workers": [
        Event("kill every conductor", 0.2),
        Event("suspend everything", 0.4),
        Event("kill everything", 0.6),
        Event("restart the workers", 0.8),
    ],
}
_STALL_SECONDS = 30.0
"""A function that sleeps is ended after seven."""
_CAUSES = """
    SELECT kind, number, key, slot, cause, cause_detail
    FROM samples JOIN rounds ON rounds.id = round_id JOIN problems ON problems.id = problem_id
    WHERE run_id = (SELECT id FROM runs WHERE name = %s)
"""
DEEDS = {
    ("check_failed", "ValueError: no luck"),
    ("check_failed", "the function returned None; expected bool, number or Verdict"),
    ("check_failed", "MemoryError:"),
    ("check_failed", "SystemExit: 0"),
    ("crashed", "the check crashed"),
    ("timed_out", "the check timed out"),
    ("correct", None),
    ("incorrect", None),
}
"""What must come of it, each at least once; where a line of the function is named, without that."""


class Found(NamedTuple):
    """What the two runs came to."""

    hostile: Snapshot
    causes: list[tuple[object, ...]]
    neighbour: Snapshot


class Undisturbed(NamedTuple):
    stack: ChaosStack
    mark: str
    expected: Found
    seconds: float


def start(stack: ChaosStack, mark: str) -> tuple[str, str]:
    """Enqueues both runs; their names."""
    text = Path(hostile_check.__file__).read_text().replace(hostile_check.MARK, mark)
    own = {"kind": "python", "function": "hostile_check.py:check", "source": text, "deadline_seconds": 0.2}
    stack.run = stack.start_another_run(chaos_recipe(verification=own))
    return stack.run, stack.start_another_run()


def found(stack: ChaosStack, hostile: str, neighbour: str) -> Found:
    """Waits for both runs; what they came to."""
    stack.wait_until_done(hostile)
    stack.wait_until_done(neighbour)
    causes = sorted(stack.rows(_CAUSES, hostile), key=repr)
    return Found(snapshot(stack, hostile), causes, snapshot(stack, neighbour))


@pytest.fixture(scope="module")
def undisturbed() -> Iterator[Undisturbed]:
    with chaos_stack(_STALL_SECONDS) as stack:
        mark = f"left-in-{stack.folder.name}"
        stack.wait_for(lambda: len(stack.workers()) == sum(WORKERS.values()), "the workers")
        started = time.monotonic()
        expected = found(stack, *start(stack, mark))
        yield Undisturbed(stack, mark, expected, time.monotonic() - started)


def test_each_deed_has_its_cause(undisturbed: Undisturbed) -> None:
    causes = {
        (cause, detail and str(detail).partition(" (line")[0])
        for *_, cause, detail in undisturbed.expected.causes
    }
    assert causes == DEEDS


@pytest.mark.parametrize("name", SCENARIOS)
def test_hostile_functions_and_dying_workers_change_no_row(undisturbed: Undisturbed, name: str) -> None:
    stack, mark, expected, seconds = undisturbed
    generator = random.Random(name)
    names = start(stack, mark)
    started = time.monotonic()
    for event in SCENARIOS[name]:
        time.sleep(max(0.0, event.at * seconds - (time.monotonic() - started)))
        DISTURBANCES[event.name](stack, generator)
    assert found(stack, *names) == expected
    stack.wait_for(lambda: not left(mark), "the end of what functions have started")


def left(mark: str) -> list[psutil.Process]:
    """The processes that a function has started and that live."""
    return [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]
