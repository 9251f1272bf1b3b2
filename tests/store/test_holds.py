"""A run that is held plans no work, wherever it stands, and loses none."""

from typing import Any

import pytest

from hsstar.domain.lifecycle import IterationState
from hsstar.store import rounds, runs
from tests.store.conftest import MakeDatabase
from tests.store.driver import Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, make_recipe

RECIPE = make_recipe(
    problems={"dataset": TRAIN, "per_iteration": 4},
    sampling={"n": 4, "n_p": 2},
    evaluation={"dataset": HELDOUT},
)


def made(driver: Driver) -> dict[str, Any]:
    """What a run has made, whatever its jobs were."""
    return {name: rows for name, rows in driver.tables().items() if name != "jobs"}


@pytest.fixture(scope="module")
def undisturbed(make_database: MakeDatabase, template: str, begin_in: Begin) -> dict[str, Any]:
    """What the run makes that is never held."""
    with make_database(template) as database:
        driver = begin_in(database, RECIPE, iterations=2)
        driver.work()
        return made(driver)


@pytest.mark.parametrize("jobs_before", range(0, 20, 4))
def test_a_held_run_plans_no_work_and_makes_the_same_after_its_release(
    begin: Begin, undisturbed: dict[str, Any], jobs_before: int
) -> None:
    driver = begin(RECIPE, iterations=2, job_samples=8)
    driver.advance()
    for _ in range(jobs_before):
        driver.do(driver.queued()[0])
    call(driver.database, runs.hold, driver.run.id, "paused", "by a test")
    queued, states = driver.queued(), driver.states()
    assert queued
    for job_id in queued:  # they end, and add nothing
        driver.do(job_id)
    driver.advance()
    driver.conductor.sweep()
    assert (driver.queued(), driver.states()) == ([], states)
    assert call(driver.database, rounds.runs_without_work) == []
    assert call(driver.database, runs.active_run_ids) == []
    assert call(driver.database, runs.release_hold, driver.run.id)
    driver.work()
    assert driver.states() == [IterationState.DONE] * 2
    assert driver.count("evaluations WHERE finished_at IS NULL") == 0
    assert made(driver) == undisturbed


def test_a_run_keeps_why_it_is_held(begin: Begin) -> None:
    driver = begin(RECIPE)

    def reasons() -> tuple[str | None, str | None]:
        run = call(driver.database, runs.get_run, driver.run.id)
        return run.held, run.held_reason

    assert reasons() == (None, None)
    call(driver.database, runs.hold, driver.run.id, "paused", "a person wants it so")
    assert reasons() == ("paused", "a person wants it so")
    call(driver.database, runs.hold, driver.run.id, "cancelled", "not any more")
    assert reasons() == ("cancelled", "not any more")
    assert call(driver.database, runs.release_hold, driver.run.id) is True
    assert reasons() == (None, None)
    assert call(driver.database, runs.release_hold, driver.run.id) is False
