"""A run that is held plans no work, wherever it stands, and loses none."""

from typing import Any

import pytest

from hsstar.commands.runs import start_iterations
from hsstar.domain.errors import HeldError
from hsstar.domain.lifecycle import IterationState, JobKind
from hsstar.store import missing, rounds, runs
from tests.deterministic import Script
from tests.store.conftest import MakeDatabase
from tests.store.driver import Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, add_problems, make_recipe

RECIPE = make_recipe(
    problems={"dataset": TRAIN, "per_iteration": 4},
    sampling={"n": 4, "n_p": 2},
    evaluation={"dataset": HELDOUT},
)


@pytest.fixture(scope="module")
def undisturbed(make_database: MakeDatabase, template: str, begin_in: Begin) -> dict[str, Any]:
    """What the run makes that is never held."""
    with make_database(template) as database:
        driver = begin_in(database, RECIPE, iterations=2)
        driver.work()
        return driver.made()


@pytest.mark.slow
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
    assert driver.made() == undisturbed


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


def all_right(statement: str, seed: int) -> tuple[object, float]:
    return statement.split()[-1], 1.0


def all_wrong(statement: str, seed: int) -> tuple[object, float]:
    return "999999", 0.0


def held(driver: Driver) -> tuple[str | None, str | None]:
    run = call(driver.database, runs.get_run, driver.run.id)
    return run.held, run.held_reason


def release(driver: Driver) -> None:
    assert call(driver.database, runs.release_hold, driver.run.id)


WAITING, DONE = IterationState.WAITING, IterationState.DONE
NO_PAIR = "iteration {0}: no pair, nothing was trained: M{1} is M{0}"


def test_a_run_stops_after_each_iteration_that_trained_nothing(begin: Begin) -> None:
    driver = begin(RECIPE, all_wrong, iterations=2)
    driver.work()
    assert driver.states() == [DONE, WAITING]
    assert held(driver) == ("trained-nothing", NO_PAIR.format(0, 1))
    assert driver.count("rounds WHERE kind = 'iteration' AND number = 1 AND model_id IS NOT NULL") == 0
    release(driver)
    driver.work()
    assert driver.states() == [DONE, DONE]
    assert held(driver) == ("trained-nothing", NO_PAIR.format(1, 2))  # the last one says so too
    with pytest.raises(HeldError, match=r"is held .*: iteration 1: no pair.*: hsstar runs resume run-"):
        start_iterations(driver.database, driver.run, 1)
    release(driver)
    driver.conductor.sweep()
    assert held(driver) == (None, None)  # nobody is stopped twice


@pytest.mark.parametrize(
    ("gate", "states"),
    [({}, [DONE, WAITING]), ({"correct_share": [0.02, 1.0]}, [IterationState.PRE_SAMPLING, WAITING])],
    ids=["trained nothing", "gate"],
)
def test_a_run_stops_where_it_has_to_whatever_dies(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, gate: dict[str, Any], states: list[IterationState]
) -> None:
    recipe = make_recipe(sampling={"n": 4, "n_p": 2}, evaluation={"dataset": HELDOUT}, gate=gate)
    driver = begin(recipe, all_wrong, iterations=2)
    driver.work_among_dying_conductors(monkeypatch)
    assert (driver.states(), held(driver)[0]) == (states, "gate" if gate else "trained-nothing")


def test_a_run_that_keeps_going_is_not_stopped(begin: Begin) -> None:
    driver = begin(RECIPE, all_wrong, iterations=0)
    with driver.database.begin() as connection:
        add_problems(connection, 8)
    start_iterations(driver.database, driver.run, 2, keep_going=True)
    driver.work()
    assert (driver.states(), held(driver)) == ([DONE, DONE], (None, None))


def test_a_run_that_is_to_train_nothing_is_not_stopped(begin: Begin) -> None:
    driver = begin(make_recipe(training={"objective": "none"}), all_right, iterations=2)
    driver.work()
    assert (driver.states(), held(driver)) == ([DONE, DONE], (None, None))


def test_a_training_that_a_person_discarded_does_not_stop_the_run(begin: Begin) -> None:
    driver = begin(make_recipe(), iterations=2)
    driver.work([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE])
    (training,) = driver.queued([JobKind.TRAIN])
    driver.fail(training)
    call(driver.database, missing.discard_failed, driver.run.id)
    driver.work([JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE])
    assert (driver.states()[0], held(driver)) == (DONE, (None, None))


GATED = {
    "too few correct": ({"correct_share": [0.02, 0.98]}, all_wrong, "0 of 8 pre-samples correct (0.0%)"),
    "too many correct": ({"correct_share": [0.02, 0.98]}, all_right, "8 of 8 pre-samples correct (100.0%)"),
}


@pytest.mark.parametrize(("gate", "script", "words"), GATED.values(), ids=GATED)
def test_the_gate_stops_an_iteration_before_re_sampling_and_once(
    begin: Begin, gate: dict[str, Any], script: Script, words: str
) -> None:
    recipe = make_recipe(sampling={"n": 4, "n_p": 2}, gate=gate, training={"objective": "none"})
    driver = begin(recipe, script, iterations=2)
    for number in (0, 1):
        driver.work()
        assert driver.states()[number] is IterationState.PRE_SAMPLING
        kind, reason = held(driver)
        assert kind == "gate"
        assert str(reason).startswith(f"iteration {number}: {words}, and gate.correct_share is 2.0% to 98.0%")
        release(driver)
    driver.work()
    assert (driver.states(), held(driver)) == ([DONE, DONE], (None, None))


def test_the_gate_stops_a_run_whose_new_policy_is_worse(begin: Begin) -> None:
    recipe = make_recipe(
        sampling={"n": 4, "n_p": 2}, evaluation={"dataset": HELDOUT}, gate={"evaluation_drop_at_most": 0.03}
    )
    driver = begin(recipe, iterations=2)
    driver.advance()
    while driver.states()[0] is not IterationState.EVALUATING:
        driver.do(driver.queued()[0])
    driver.execute("UPDATE evaluations SET finished_at = now(), accuracy = 1, standard_error = 0")
    driver.execute(
        "UPDATE evaluations SET accuracy = 0.5 FROM rounds WHERE rounds.id = round_id AND rounds.number = 1"
    )
    driver.execute("UPDATE jobs SET state = 'done', finished_at = now() WHERE state = 'queued'")
    assert driver.states()[1] is WAITING  # its policy exists and is not judged yet
    driver.advance()
    words = "iteration 0: accuracy on heldout 0.500 after 1.000, and gate.evaluation_drop_at_most is 0.03"
    assert (driver.states(), held(driver)) == ([DONE, WAITING], ("gate", words))
    release(driver)
    driver.advance()
    assert driver.states() == [DONE, IterationState.PRE_SAMPLING]


def test_with_a_limit_of_the_drop_an_iteration_waits_for_the_evaluation_of_its_policy(begin: Begin) -> None:
    recipe = make_recipe(evaluation={"dataset": HELDOUT}, gate={"evaluation_drop_at_most": 0.9})
    driver = begin(recipe, iterations=2)
    driver.advance()
    while driver.states()[0] is not DONE:
        assert driver.states()[1] is WAITING
        driver.do(driver.queued()[-1])
    driver.work()
    assert (driver.states(), held(driver)) == ([DONE, DONE], (None, None))
