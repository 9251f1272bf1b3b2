"""What a run lacks, to the slot, and what discarding it means."""

from collections.abc import Callable

import pytest

from hsstar.commands.runs import accept_missing
from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import LeaseLostError
from hsstar.store.read.missing import MissingEntry, list_missing
from hsstar.store.training import begin_training
from tests.store.driver import SAMPLE_KINDS, Begin, Driver
from tests.store.factory import TRAIN, add_iteration, add_problems, claim, make_recipe

N_P, N = 2, 4
PROBLEMS = 9
RECIPE = make_recipe(problems={"dataset": TRAIN, "per_iteration": PROBLEMS}, sampling={"n": N, "n_p": N_P})


def _missing(driver: Driver) -> list[MissingEntry]:
    with driver.database.begin() as connection:
        return list_missing(connection, driver.run.id)


def _problems(driver: Driver) -> list[int]:
    return [row.id for row in driver.rows("SELECT problem_id AS id FROM round_problems ORDER BY 1")]


def test_every_slot_is_listed_before_and_after_it_is_enqueued(begin: Begin) -> None:
    driver = begin(RECIPE, iterations=0)
    with driver.database.begin() as connection:
        add_iteration(connection, driver.run, add_problems(connection, PROBLEMS))
    expected = [("iteration 0", problem, "sample", tuple(range(N_P))) for problem in _problems(driver)]
    missing = _missing(driver)
    assert [(entry.round, entry.problem, entry.lacks, entry.slots) for entry in missing] == expected
    assert {(entry.job, entry.held_by) for entry in missing} == {(None, "the next sweep")}
    driver.advance()
    missing = _missing(driver)
    assert [(entry.round, entry.problem, entry.lacks, entry.slots) for entry in missing] == expected
    assert {entry.held_by for entry in missing} == {"queued"}
    assert {entry.job for entry in missing} == set(driver.queued([JobKind.SAMPLE]))


def test_drawn_samples_lack_verdict_and_reward(begin: Begin) -> None:
    driver = begin(RECIPE)
    driver.work([JobKind.SAMPLE])
    assert {(entry.problem, entry.lacks, entry.slots, entry.held_by) for entry in _missing(driver)} == {
        (problem, kind, tuple(range(N_P)), "queued")
        for problem in _problems(driver)
        for kind in ("verdict", "reward")
    }


def test_a_running_job_names_its_worker_and_a_failed_one_its_error(begin: Begin) -> None:
    driver = begin(RECIPE, job_samples=1)
    driver.advance()
    running, failing = driver.queued()[:2]
    with driver.database.begin() as connection:
        claim(connection, running, "sample-1@box")
    driver.fail(failing)
    by_job = {entry.job: entry for entry in _missing(driver)}
    assert by_job[running].held_by == "running at sample-1@box"
    assert (by_job[failing].held_by, by_job[failing].error) == ("failed", "poison")


def _resampling(driver: Driver) -> None:
    driver.advance()
    while driver.states() == ["pre_sampling"]:
        driver.do(driver.queued()[0])


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "retried"])
@pytest.mark.parametrize(
    ("kind", "lacks"), [(JobKind.SAMPLE, "sample"), (JobKind.VERIFY, "verdict"), (JobKind.SCORE, "reward")]
)
@pytest.mark.parametrize(
    ("reach", "state", "labels"),
    [(Driver.advance, "pre_sampling", PROBLEMS - 1), (_resampling, "re_sampling", PROBLEMS)],
    ids=["pre-sampling", "re-sampling"],
)
def test_a_failed_job_holds_the_iteration_up_until_it_is_accepted_or_retried(
    begin: Begin,
    reach: Callable[[Driver], None],
    state: str,
    labels: int,
    kind: JobKind,
    lacks: str,
    accepted: bool,
) -> None:
    driver = begin(RECIPE, job_samples=N_P)
    reach(driver)
    if kind is not JobKind.SAMPLE:
        driver.work([JobKind.SAMPLE])
    driver.fail(driver.queued([kind])[0])
    driver.work()
    assert driver.states() == [state]
    assert driver.count("preference_pairs") == 0
    assert driver.count("difficulty_labels") == labels
    assert [(entry.lacks, entry.held_by, entry.error) for entry in _missing(driver)] == [
        (lacks, "failed", "poison")
    ]
    if accepted:
        assert accept_missing(driver.database, driver.run) == 1
    else:
        with driver.database.begin() as connection:
            jobs.retry(connection, driver.run.id, [])
    driver.work()
    assert driver.states() == ["done"]
    assert driver.count("preference_pairs") > 0
    excluded = driver.rows("SELECT problem_id, exclusion FROM round_problems WHERE exclusion IS NOT NULL")
    if not accepted:
        assert (_missing(driver), excluded) == ([], [])
        assert driver.statistics().drawn == N * PROBLEMS
        return
    (entry,) = _missing(driver)
    assert (entry.lacks, entry.held_by, entry.error) == (lacks, "discarded", "poison")
    assert [tuple(row) for row in excluded] == [(entry.problem, "discarded: poison")]
    assert driver.count("difficulty_labels") == labels
    assert driver.count(f"preference_pairs WHERE problem_id = {entry.problem}") == 0


@pytest.mark.parametrize("accepted", [True, False], ids=["accepted", "retried"])
def test_a_failed_training_waits_and_a_discarded_one_leaves_the_policy_as_it_was(
    begin: Begin, accepted: bool
) -> None:
    driver = begin(RECIPE)
    driver.work(SAMPLE_KINDS)
    (training,) = driver.queued()
    driver.fail(training)
    driver.work()
    assert driver.states() == ["training"]
    (entry,) = _missing(driver)
    assert (entry.lacks, entry.problem, entry.slots, entry.job) == ("trained policy", None, (), training)
    if accepted:
        accept_missing(driver.database, driver.run)
    else:
        with driver.database.begin() as connection:
            jobs.retry(connection, driver.run.id, [])
    driver.work()
    assert driver.states() == ["done"]
    assert driver.statistics().output_model == ("M0" if accepted else f"{driver.run.name}-M1")


def test_nothing_is_discarded_where_nothing_has_failed_nor_retried_what_is_discarded(begin: Begin) -> None:
    driver = begin(RECIPE)
    with pytest.raises(NotFoundError, match="no job of run"):
        accept_missing(driver.database, driver.run)
    driver.advance()
    failing = driver.queued()[0]
    driver.fail(failing)
    accept_missing(driver.database, driver.run)
    with driver.database.begin() as connection, pytest.raises(NotFoundError):
        jobs.retry(connection, driver.run.id, [failing])


def test_a_frozen_trainer_cannot_touch_the_record_of_the_next_attempt(begin: Begin) -> None:
    driver = begin(RECIPE)
    driver.work(SAMPLE_KINDS)
    (training,) = driver.queued()
    model = driver.run.model_id
    with driver.database.begin() as connection:
        frozen = claim(connection, training, "frozen", lease_seconds=-1)
        jobs.reclaim(connection, None, 3)
        second = claim(connection, training, "second")
        record = begin_training(connection, second, model, "dpo", {}, [1])
    with pytest.raises(LeaseLostError), driver.database.begin() as connection:
        begin_training(connection, frozen, model, "dpo", {}, [1])
    assert [row.id for row in driver.rows("SELECT id FROM training_runs")] == [record]
