"""What a run lacks, to the slot, and what discarding it means."""

from collections.abc import Callable

import pytest

from hsstar.commands.runs import accept_missing
from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.store.queue import jobs
from hsstar.store.read.missing import MissingEntry, list_missing
from tests.store.driver import SAMPLE_KINDS, Begin, Driver, call
from tests.store.factory import HELDOUT, TRAIN, add_iteration, add_problems, claim, make_recipe

N_P, N = 2, 4
PROBLEMS = 9
RECIPE = make_recipe(problems={"dataset": TRAIN, "per_iteration": PROBLEMS}, sampling={"n": N, "n_p": N_P})


def _missing(driver: Driver) -> list[MissingEntry]:
    return call(driver.database, list_missing, driver.run.id)


def test_every_slot_is_listed_before_and_after_it_is_enqueued(begin: Begin) -> None:
    driver = begin(RECIPE, iterations=0)
    with driver.database.begin() as connection:
        problems = add_problems(connection, PROBLEMS)
        add_iteration(connection, driver.run, problems)
    expected = [("iteration 0", problem, "sample", (0, 1)) for problem in problems]
    missing = _missing(driver)
    assert [(entry.round, entry.problem, entry.lacks, entry.slots) for entry in missing] == expected
    assert {(entry.job, entry.held_by) for entry in missing} == {(None, "the next sweep")}
    driver.advance()
    missing = _missing(driver)
    assert [(entry.round, entry.problem, entry.lacks, entry.slots) for entry in missing] == expected
    held = {(job, "queued") for job in driver.queued([JobKind.SAMPLE])}
    assert {(entry.job, entry.held_by) for entry in missing} == held
    driver.work([JobKind.SAMPLE])
    assert {(entry.problem, entry.lacks, entry.slots, entry.held_by) for entry in _missing(driver)} == {
        (problem, kind, (0, 1), "queued") for problem in problems for kind in ("verdict", "reward")
    }


def test_iterations_are_listed_before_evaluations(begin: Begin) -> None:
    driver = begin(make_recipe(evaluation={"dataset": HELDOUT}))
    driver.advance()
    assert list(dict.fromkeys(entry.round for entry in _missing(driver))) == ["iteration 0", "evaluation 0"]


def test_a_running_job_names_its_worker_and_a_failed_one_its_error(begin: Begin) -> None:
    driver = begin(RECIPE, job_samples=1)
    driver.advance()
    running, failing = driver.queued()[:2]
    call(driver.database, claim, running, "sample-1@box")
    driver.fail(failing)
    held = {entry.job: (entry.held_by, entry.error) for entry in _missing(driver)}
    assert (held[running][0], held[failing]) == ("running at sample-1@box", ("failed", "poison"))


def _resampling(driver: Driver) -> None:
    driver.advance()
    while driver.states() == ["pre_sampling"]:
        driver.do(driver.queued()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "lacks"), [(JobKind.SAMPLE, "sample"), (JobKind.VERIFY, "verdict"), (JobKind.SCORE, "reward")]
)
@pytest.mark.parametrize(
    ("reach", "state", "labels"),
    [(Driver.advance, "pre_sampling", PROBLEMS - 1), (_resampling, "re_sampling", PROBLEMS)],
    ids=["pre-sampling", "re-sampling"],
)
def test_failed_jobs_hold_the_iteration_up_until_they_are_retried_or_accepted(
    begin: Begin, reach: Callable[[Driver], None], state: str, labels: int, kind: JobKind, lacks: str
) -> None:
    driver = begin(RECIPE, job_samples=N_P)
    reach(driver)
    if kind is not JobKind.SAMPLE:
        driver.work([JobKind.SAMPLE])
    retried, accepted = driver.queued([kind])[:2]
    for job_id in (retried, accepted):
        driver.fail(job_id)
    for failed in ({retried, accepted}, {accepted}):
        driver.work()
        assert driver.states() == [state]
        assert driver.count("preference_pairs") == 0
        assert {(entry.job, entry.lacks, entry.held_by, entry.error) for entry in _missing(driver)} == {
            (job_id, lacks, "failed", "poison") for job_id in failed
        }
        if retried in failed:
            call(driver.database, jobs.retry, driver.run.id, [retried])
    assert driver.count("difficulty_labels") == labels
    assert accept_missing(driver.database, driver.run) == 1
    driver.work()
    assert driver.states() == ["done"]
    (entry,) = _missing(driver)
    assert (entry.job, entry.lacks, entry.held_by, entry.error) == (accepted, lacks, "discarded", "poison")
    excluded = driver.rows("SELECT problem_id, exclusion FROM round_problems WHERE exclusion IS NOT NULL")
    assert excluded == [(entry.problem, "discarded: poison")]
    assert driver.count("difficulty_labels") == labels
    assert driver.count("preference_pairs") > 0
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
        call(driver.database, jobs.retry, driver.run.id, [])
    driver.work()
    assert driver.states() == ["done"]
    statistics = driver.statistics()
    assert statistics.output_model == ("M0" if accepted else f"{driver.run.name}-M1")
    assert statistics.drawn == N * PROBLEMS


def test_nothing_is_discarded_where_nothing_has_failed_nor_retried_what_is_discarded(begin: Begin) -> None:
    driver = begin(RECIPE)
    with pytest.raises(NotFoundError, match="no job of run"):
        accept_missing(driver.database, driver.run)
    driver.advance()
    failing = driver.queued()[0]
    driver.fail(failing)
    accept_missing(driver.database, driver.run)
    with pytest.raises(NotFoundError):
        call(driver.database, jobs.retry, driver.run.id, [failing])
