"""What a run lacks, to the slot, and what discarding it means."""

import pytest
from sqlalchemy import text

from hsstar.commands.runs import accept_missing
from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind
from hsstar.store import rounds, runs
from hsstar.store.database import Database
from hsstar.store.queue import jobs
from hsstar.store.queue.jobs import LeaseLostError
from hsstar.store.read.missing import MissingEntry, list_missing
from hsstar.store.runs import Run
from hsstar.store.training import begin_training
from tests.store.factory import add_iteration, add_problems, add_run, claim, make_recipe
from tests.store.hand import Hand

N_P, N = 2, 4


def _run(database: Database, problems: int = 6) -> tuple[Run, list[int]]:
    recipe = make_recipe(sampling={"n": N, "n_p": N_P})
    with database.begin() as connection:
        ids = add_problems(connection, problems)
        run = add_run(connection, recipe)
        add_iteration(connection, run, ids)
    return run, ids


def _missing(database: Database, run: Run) -> list[MissingEntry]:
    with database.begin() as connection:
        return list_missing(connection, run.id)


def _fail(database: Database, job_id: int) -> None:
    """The last attempt of a job fails."""
    with database.begin() as connection:
        job = claim(connection, job_id)
        jobs.record_failure(connection, job, "poison", "trace", job.attempts, divisible=False)


def _advance(database: Database, run: Run) -> None:
    Hand(database).conductor.advance(run.id)


def _queued(database: Database, kind: JobKind) -> list[int]:
    return Hand(database).queued({kind})


def _iteration(database: Database, run: Run) -> rounds.Iteration:
    with database.begin() as connection:
        return rounds.list_iterations(connection, run.id)[0]


def test_every_slot_is_listed_before_and_after_it_is_enqueued(database: Database) -> None:
    run, ids = _run(database)
    expected = [("iteration 0", problem, "sample", tuple(range(N_P))) for problem in ids]
    found = _missing(database, run)
    assert [(m.round, m.problem, m.lacks, m.slots) for m in found] == expected
    assert {(m.job, m.held_by) for m in found} == {(None, "the next sweep")}
    _advance(database, run)
    found = _missing(database, run)
    assert [(m.round, m.problem, m.lacks, m.slots) for m in found] == expected
    assert {m.held_by for m in found} == {"queued"}
    assert {m.job for m in found} == set(_queued(database, JobKind.SAMPLE))


def test_drawn_samples_lack_verdict_and_reward(database: Database) -> None:
    run, ids = _run(database)
    Hand(database).work({JobKind.SAMPLE})
    kinds = {(m.problem, m.lacks, m.slots, m.held_by) for m in _missing(database, run)}
    assert kinds == {
        (problem, kind, tuple(range(N_P)), "queued") for problem in ids for kind in ("verdict", "reward")
    }


def test_a_running_job_names_its_worker_and_a_failed_one_its_error(database: Database) -> None:
    run, _ = _run(database)
    hand = Hand(database, job_samples=1)
    hand.conductor.advance(run.id)
    running, failing = _queued(database, JobKind.SAMPLE)[:2]
    with database.begin() as connection:
        claim(connection, running, "sample-1@box")
    _fail(database, failing)
    by_job = {m.job: m for m in _missing(database, run)}
    assert by_job[running].held_by == "running at sample-1@box"
    assert (by_job[failing].held_by, by_job[failing].error) == ("failed", "poison")


def test_a_finished_run_lacks_nothing(database: Database) -> None:
    run, _ = _run(database)
    Hand(database).work()
    assert _iteration(database, run).state == "done"
    assert _missing(database, run) == []


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [(JobKind.SAMPLE, "sample"), (JobKind.VERIFY, "verdict"), (JobKind.SCORE, "reward")],
)
def test_the_run_goes_on_without_what_is_discarded(database: Database, kind: JobKind, lacks: str) -> None:
    run, ids = _run(database)
    hand = Hand(database, job_samples=1)
    hand.conductor.advance(run.id)
    if kind is not JobKind.SAMPLE:
        hand.work({JobKind.SAMPLE})
    _fail(database, _queued(database, kind)[0])
    hand.work()
    assert _iteration(database, run).state == "pre_sampling"  # incomplete: it waits for a decision
    assert [(m.lacks, m.held_by, m.error) for m in _missing(database, run)] == [(lacks, "failed", "poison")]

    assert accept_missing(database, run) == 1
    hand.work()
    assert _iteration(database, run).state == "done"
    (missing,) = _missing(database, run)
    assert (missing.lacks, missing.held_by, missing.error) == (lacks, "discarded", "poison")
    with database.begin() as connection:
        rows = connection.execute(
            text("SELECT problem_id, exclusion FROM round_problems WHERE exclusion IS NOT NULL")
        ).all()
        labels = connection.scalar(text("SELECT count(*) FROM difficulty_labels"))
    assert [tuple(row) for row in rows] == [(missing.problem, "discarded: poison")]
    assert labels == len(ids) - 1


def test_a_discarded_training_leaves_the_policy_as_it_was(database: Database) -> None:
    run, _ = _run(database, problems=12)
    hand = Hand(database)
    hand.work({JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE})
    (training,) = _queued(database, JobKind.TRAIN)
    _fail(database, training)
    (missing,) = _missing(database, run)
    assert (missing.lacks, missing.problem, missing.slots, missing.job) == (
        "trained policy",
        None,
        (),
        training,
    )
    accept_missing(database, run)
    hand.work()
    assert _iteration(database, run).output_model_id == run.model_id
    assert _iteration(database, run).state == "done"


def test_nothing_is_discarded_where_nothing_has_failed(database: Database) -> None:
    run, _ = _run(database)
    with pytest.raises(NotFoundError, match="no job of run"):
        accept_missing(database, run)


def test_what_is_discarded_cannot_be_retried(database: Database) -> None:
    run, _ = _run(database)
    _advance(database, run)
    failing = _queued(database, JobKind.SAMPLE)[0]
    _fail(database, failing)
    accept_missing(database, run)
    with database.begin() as connection, pytest.raises(NotFoundError):
        jobs.retry(connection, run.id, [failing])


def test_a_frozen_trainer_cannot_touch_the_record_of_the_next_attempt(database: Database) -> None:
    run, _ = _run(database, problems=12)
    Hand(database).work({JobKind.SAMPLE, JobKind.VERIFY, JobKind.SCORE})
    (training,) = _queued(database, JobKind.TRAIN)
    with database.begin() as connection:
        frozen = claim(connection, training, "frozen", lease_seconds=-1)
        jobs.reclaim(connection, None, 3)
        second = claim(connection, training, "second")
        record = begin_training(connection, second, run.model_id, "dpo", {}, [1])
    with pytest.raises(LeaseLostError), database.begin() as connection:
        begin_training(connection, frozen, run.model_id, "dpo", {}, [1])
    with database.begin() as connection:
        assert connection.scalar(text("SELECT id FROM training_runs")) == record
        assert runs.get_run(connection, run.id)
