"""A job's life: claimed once, fenced by its lease, taken back, halved, given one wake-up."""

import threading
from datetime import timedelta
from functools import partial

import pytest
from sqlalchemy import Connection, text

from hsstar.domain.errors import NotFoundError
from hsstar.domain.lifecycle import JobKind, JobState
from hsstar.store import samples
from hsstar.store.database import Database
from hsstar.store.queue import jobs, wakeups, workers
from hsstar.store.queue.jobs import Job, LeaseLostError
from hsstar.store.read.jobs import JobEntry, list_jobs
from hsstar.store.samples import DrawnSample
from hsstar.workers.engine_schedule import EngineScheduler
from tests.store.drawing import add_jobs
from tests.store.factory import (
    add_iteration,
    add_job,
    add_problems,
    add_round,
    add_run,
    add_worker,
    beat,
    change_jobs,
    claim,
    items_of,
    select,
    state_of,
)
from tests.store.threads import at_once

ATTEMPTS = 3


@pytest.fixture
def round_id(connection: Connection) -> int:
    """A round of one problem."""
    return add_round(connection, 1)[0]


@pytest.fixture
def job_id(connection: Connection, round_id: int) -> int:
    """A queued sampling job of two samples."""
    return add_job(connection, round_id, items={add_problems(connection, 1)[0]: [0, 1]})


def fail(connection: Connection, job: Job, *, divisible: bool = False) -> JobState | None:
    return jobs.record_failure(connection, job, "it broke", "Traceback: …", ATTEMPTS, divisible=divisible)


def taken(
    connection: Connection, job_id: int | None = None, worker: str = "w", lease_seconds: float = 60
) -> tuple[int, int] | None:
    """What a worker gets: the job, and its attempt."""
    job = jobs.claim(connection, job_id, worker, lease_seconds, [JobKind.SAMPLE])
    return (job.id, job.attempts) if job else None


# --- claims -------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [True, False])
def test_every_job_is_claimed_once_however_many_reach_for_it(database: Database, named: bool) -> None:
    """By its id, or as the next one."""
    job_ids = add_jobs(database, *[JobKind.SAMPLE] * 20)
    barrier = threading.Barrier(4)
    got: list[int] = []

    def reach(worker: str) -> None:
        barrier.wait(60)
        for job_id in job_ids:
            with database.begin() as connection:
                job = taken(connection, job_id if named else None, worker)
            if job is not None:
                got.append(job[0])

    assert at_once(*(partial(reach, f"w{number}") for number in range(4))) == []
    assert sorted(got) == job_ids


def test_a_claim_lends_the_job_to_a_worker_for_an_attempt(connection: Connection, round_id: int) -> None:
    job = claim(connection, add_job(connection, round_id, JobKind.VERIFY), "verifier-1", lease_seconds=40)
    assert (job.kind, job.attempts, job.worker, job.round_id) == (JobKind.VERIFY, 1, "verifier-1", round_id)
    lease = "lease_token, started_at = now(), extract(epoch FROM lease_expires_at - now())"
    found = select(connection, f"SELECT state, attempts, worker, {lease} FROM jobs")
    assert found == [("running", 1, "verifier-1", job.token, True, 40)]


def test_the_oldest_job_of_its_kinds_that_may_start_is_next(connection: Connection, round_id: int) -> None:
    delayed, *samplings = (add_job(connection, round_id) for _ in range(3))
    scoring = add_job(connection, round_id, JobKind.SCORE)
    change_jobs(connection, "available_at = now() + interval '1 hour'", delayed)
    kinds = [JobKind.SAMPLE, JobKind.VERIFY]
    got = [jobs.claim(connection, None, "w", 60, kinds) for _ in range(3)]
    expected = [(job_id, JobKind.SAMPLE, 1, "w") for job_id in samplings]
    assert [job and (job.id, job.kind, job.attempts, job.worker) for job in got] == [*expected, None]
    assert state_of(connection, scoring) == "queued"


def test_a_worker_that_was_asked_to_stop_is_given_no_job(database: Database) -> None:
    (job_id,) = add_jobs(database, JobKind.SAMPLE)
    with database.begin() as connection:
        for name in ("leaving", "staying"):
            add_worker(connection, name)
        workers.request_stop(connection, ["leaving"], [], everyone=False)
        assert taken(connection, job_id, "leaving") is taken(connection, None, "leaving") is None
    scheduler = EngineScheduler([JobKind.SAMPLE, JobKind.SCORE], swap_seconds=60.0)
    assert scheduler.claim(database, job_id, "leaving", 60) is None
    with database.begin() as connection:
        assert state_of(connection, job_id) == "queued"
        assert taken(connection, None, "staying") == (job_id, 1)


def test_a_worker_of_another_schema_is_given_no_job(connection: Connection, job_id: int) -> None:
    connection.execute(text("UPDATE alembic_version SET version_num = '9999_newer'"))
    assert taken(connection, job_id) is None
    assert state_of(connection, job_id) == "queued"


def test_a_job_that_is_being_taken_is_passed_over(database: Database) -> None:
    first, second = add_jobs(database, *[JobKind.SAMPLE] * 2)
    with database.begin() as one, database.begin() as other:
        assert taken(one, first) == (first, 1)
        assert [taken(other), taken(other)] == [(second, 1), None]


def test_only_queued_jobs_can_be_claimed(connection: Connection, round_id: int) -> None:
    for state in set(JobState) - {JobState.QUEUED}:
        assert taken(connection, add_job(connection, round_id, state=state)) is None
    assert taken(connection, 404) is None


# --- leases -------------------------------------------------------------------------------------


def test_a_dead_worker_s_job_is_queued_until_the_last_try(connection: Connection, round_id: int) -> None:
    job_id = add_job(connection, round_id)
    for attempt, state, ended in ((1, "queued", None), (2, "queued", None), (3, "failed", True)):
        assert wakeups.claim_due_wakeups(connection) == [(job_id, JobKind.SAMPLE)]
        assert taken(connection, job_id, "gone", lease_seconds=-1) == (job_id, attempt)  # at once
        jobs.reclaim_of(connection, "gone", ATTEMPTS)
        reason = f"worker gone died during attempt {attempt}"
        found = select(connection, "SELECT state, error, finished_at = now() FROM jobs")
        assert found == [(state, reason, ended)]


def test_a_lease_that_expires_is_no_attempt_for_the_first_times(connection: Connection, job_id: int) -> None:
    """It alone does not say that the job has killed its worker."""
    for lapses in range(1, 6):
        assert taken(connection, job_id, "gone", lease_seconds=-1) == (job_id, 1)
        jobs.reclaim_expired(connection, ATTEMPTS)
        found = select(connection, "SELECT state, attempts, lapses, error FROM jobs")
        assert found == [("queued", 0, lapses, "worker gone stopped answering during attempt 1")]
    for attempt in range(1, ATTEMPTS + 1):
        assert taken(connection, job_id, "gone", lease_seconds=-1) == (job_id, attempt)
        jobs.reclaim_expired(connection, ATTEMPTS)
    assert len(select(connection, "SELECT FROM jobs WHERE state = 'queued'")) == 2  # halved


def test_a_lease_that_is_extended_does_not_expire(connection: Connection, job_id: int) -> None:
    job = claim(connection, job_id, lease_seconds=-1)
    beat(connection, add_worker(connection, "w"), jobs=[job], still=[7.0])
    jobs.reclaim_expired(connection, ATTEMPTS)
    assert select(connection, "SELECT state, now() - moved_at FROM jobs") == [
        ("running", timedelta(seconds=7))
    ]


def test_a_lost_lease_fences_every_write(database: Database) -> None:
    with database.begin() as connection:
        round_id, (problem,) = add_round(connection, 1)
        job_id = add_job(connection, round_id, items={problem: [0]})
        late = claim(connection, job_id, "late", lease_seconds=-1)
        jobs.reclaim_expired(connection, ATTEMPTS)
        claim(connection, job_id, "next")
    told = r"late does not hold job \d+ any more; its results are dropped"
    with pytest.raises(LeaseLostError, match=told), database.begin() as connection:
        samples.write_samples(connection, round_id, None, "late", [DrawnSample(problem, 0, "text")])
        jobs.complete(connection, late)
    with pytest.raises(LeaseLostError), database.begin() as connection:
        jobs.fence(connection, late)
    with database.begin() as connection:
        beat(connection, add_worker(connection, "late"), jobs=[late], still=[0.0], lease=1e6)
        assert fail(connection, late) is None
        jobs.release(connection, late)
        query = "SELECT state, worker, lease_expires_at < now() + interval '1 hour' FROM jobs"
        assert select(connection, query) == [("running", "next", True)]
        assert select(connection, "SELECT * FROM samples") == []


def test_nobody_takes_a_job_back_while_a_part_of_its_results_is_written(database: Database) -> None:
    (job_id,) = add_jobs(database, JobKind.SAMPLE)
    with database.begin() as connection:
        job = claim(connection, job_id, lease_seconds=-1)
    with database.begin() as writing:
        jobs.fence(writing, job)
        with database.begin() as connection:
            jobs.reclaim_expired(connection, ATTEMPTS)
    with database.begin() as connection:
        assert state_of(connection, job_id) == "running"
        jobs.complete(connection, job)


def test_completion_ends_the_job_and_forgets_earlier_errors(connection: Connection, job_id: int) -> None:
    fail(connection, claim(connection, job_id))
    job = claim(connection, job_id)
    jobs.complete(connection, job)
    assert select(connection, "SELECT state, error, traceback FROM jobs") == [("done", None, None)]
    with pytest.raises(LeaseLostError):
        jobs.complete(connection, job)


def test_a_clean_stop_does_not_count_the_attempt(connection: Connection, job_id: int) -> None:
    for _ in range(2 * ATTEMPTS):
        assert wakeups.claim_due_wakeups(connection) == [(job_id, JobKind.SAMPLE)]
        job = jobs.claim(connection, job_id, "w", 60)  # at once
        assert job is not None
        assert job.attempts == 1
        jobs.release(connection, job)
        found = select(connection, "SELECT state, worker, started_at FROM jobs")
        assert found == [("queued", None, None)]


def test_an_attempt_that_gets_further_counts_as_the_first(connection: Connection, job_id: int) -> None:
    fail(connection, claim(connection, job_id))
    lost = claim(connection, job_id)
    jobs.reclaim_of(connection, "w", ATTEMPTS)
    job = claim(connection, job_id)
    for writer, attempts in ((lost, 3), (job, 1)):
        jobs.reset_attempts(connection, writer)
        assert select(connection, "SELECT attempts FROM jobs") == [(attempts,)]


# --- failures -----------------------------------------------------------------------------------


def test_a_failed_attempt_is_tried_again_later_and_the_last_one_fails_the_whole_job(
    connection: Connection, job_id: int
) -> None:
    items = items_of(connection, job_id)
    for delay in (1, 4):
        assert fail(connection, claim(connection, job_id)) is JobState.QUEUED
        assert taken(connection, job_id) is None  # too early
        query = "SELECT extract(epoch FROM available_at - now()), error, traceback FROM jobs"
        assert select(connection, query) == [(delay, "it broke", "Traceback: …")]
    assert fail(connection, claim(connection, job_id)) is JobState.FAILED
    found = select(connection, "SELECT state, error, traceback FROM jobs")
    assert (found, items_of(connection, job_id)) == ([("failed", "it broke", "Traceback: …")], items)


def test_errors_may_hold_anything_and_are_kept_short(connection: Connection, job_id: int) -> None:
    job = claim(connection, job_id)
    jobs.record_failure(connection, job, "\x00\ud800" + "x" * 10_000, "y" * 10**6, 1, divisible=False)
    query = "SELECT left(error, 3), length(error), length(traceback) FROM jobs"
    assert select(connection, query) == [("��x", 2_000, 20_000)]


def test_a_divisible_job_is_halved_down_to_its_single_bad_item(connection: Connection) -> None:
    """After its attempts; each half has one attempt, not all of them again."""
    round_id, ids = add_round(connection, 3)
    bad = (ids[1], 2)
    first = add_job(connection, round_id, JobKind.SCORE, {key: [0, 1, 2, 3] for key in ids})
    attempts = []
    while (queued := connection.scalar(text("SELECT min(id) FROM jobs WHERE state = 'queued'"))) is not None:
        job = claim(connection, queued)
        attempts.append((job.id == first, job.attempts))
        if bad in items_of(connection, job.id):
            fail(connection, job, divisible=True)
        else:
            jobs.complete(connection, job)
    ended = select(connection, "SELECT id, state, kind, round_id FROM jobs ORDER BY id")
    (failed,) = [row[0] for row in ended if row[1] == "failed"]
    assert items_of(connection, failed) == [bad]
    done = [address for row in ended if row[1] == "done" for address in items_of(connection, row[0])]
    assert sorted([*done, bad]) == [(key, slot) for key in ids for slot in range(4)]
    assert {row[2:] for row in ended} == {("score", round_id)}
    assert [number for is_first, number in attempts if is_first][:ATTEMPTS] == [1, 2, 3]
    assert {number for is_first, number in attempts if not is_first} == {ATTEMPTS}


def test_a_job_that_kills_its_workers_is_halved_too(connection: Connection, job_id: int) -> None:
    items = items_of(connection, job_id)
    for _ in range(ATTEMPTS):
        claim(connection, job_id, lease_seconds=-1)
        jobs.reclaim_of(connection, "w", ATTEMPTS)
    found = select(connection, "SELECT id, state, attempts FROM jobs ORDER BY id")
    assert [row[1:] for row in found] == [("queued", ATTEMPTS - 1)] * 2
    assert [items_of(connection, row[0]) for row in found] == [[item] for item in items]


def test_a_job_that_needs_too_much_memory_is_split_at_once_without_an_attempt(connection: Connection) -> None:
    round_id, (first, second) = add_round(connection, 2)
    job_id = add_job(connection, round_id, items={second: [0, 1], first: [0]})
    lost = claim(connection, job_id)
    jobs.reclaim_of(connection, "w", ATTEMPTS)
    assert not jobs.split(connection, lost, "out of memory", "")
    assert jobs.split(connection, claim(connection, job_id), "out of memory", "Traceback: …")
    found = select(connection, "SELECT attempts, error, id FROM jobs ORDER BY id")
    assert [row[:2] for row in found] == [(1, "out of memory"), (1, None)]
    assert [items_of(connection, row[2]) for row in found] == [[(first, 0)], [(second, 0), (second, 1)]]
    assert taken(connection, found[0][2]) == (found[0][2], 2)  # without a delay
    single = claim(connection, add_job(connection, round_id, items={first: [3]}))
    assert not jobs.split(connection, single, "out of memory", "")
    assert state_of(connection, single.id) == "running"


def test_retry_gives_failed_jobs_fresh_attempts(connection: Connection, round_id: int) -> None:
    failed, other = (add_job(connection, round_id, state=JobState.FAILED) for _ in range(2))
    for state in (JobState.DONE, JobState.DISCARDED):
        add_job(connection, round_id, state=state)
    another_run = add_run(connection)
    elsewhere = add_job(connection, add_iteration(connection, another_run, []).id, state=JobState.FAILED)
    tried = "attempts = 3, wakeup_sent_at = now(), available_at = now() + interval '1 hour'"
    change_jobs(connection, tried)
    assert jobs.retry(connection, None, [failed]) == [failed]
    assert wakeups.claim_due_wakeups(connection) == [(failed, JobKind.SAMPLE)]
    assert taken(connection, failed) == (failed, 1)  # at once
    with pytest.raises(NotFoundError, match=f"no failed job has the id {other}"):
        jobs.retry(connection, another_run.id, [other])
    assert jobs.retry(connection, another_run.id, []) == [elsewhere]
    assert jobs.retry(connection, None, []) == [other]


# --- wake-ups -----------------------------------------------------------------------------------


def test_a_job_gets_one_wake_up_when_it_may_start(connection: Connection, round_id: int) -> None:
    first, second = add_job(connection, round_id), add_job(connection, round_id, JobKind.SCORE)
    add_job(connection, round_id, state=JobState.RUNNING)
    assert wakeups.claim_due_wakeups(connection) == [(first, JobKind.SAMPLE), (second, JobKind.SCORE)]
    fail(connection, claim(connection, first))
    assert wakeups.claim_due_wakeups(connection) == []
    wakeups.reset_wakeups(connection, [second])
    assert wakeups.claim_due_wakeups(connection) == [(second, JobKind.SCORE)]
    change_jobs(connection, "available_at = now()", first)
    assert wakeups.claim_due_wakeups(connection) == [(first, JobKind.SAMPLE)]


@pytest.mark.parametrize(
    ("role", "busy", "silent_for", "again"),
    [
        ("sample,verify", False, "1 second", True),  # sits idle: its message must have been lost
        ("sample", True, "1 second", False),
        ("verify", False, "1 second", False),
        ("sample", False, "59 seconds", True),
        ("sample", False, "60 seconds", False),
    ],
)
def test_a_job_gets_another_wake_up_only_while_a_live_worker_is_idle(
    connection: Connection, job_id: int, role: str, busy: bool, silent_for: str, again: bool
) -> None:
    beat(connection, add_worker(connection, "w", role), busy=busy)
    connection.execute(text(f"UPDATE workers SET last_heartbeat = now() - interval '{silent_for}'"))
    wakeups.claim_due_wakeups(connection)
    change_jobs(connection, "wakeup_sent_at = now() - interval '5 seconds'")
    assert wakeups.claim_due_wakeups(connection) == []
    change_jobs(connection, "wakeup_sent_at = now() - interval '6 seconds'")
    assert wakeups.claim_due_wakeups(connection) == ([(job_id, JobKind.SAMPLE)] if again else [])


def test_only_the_head_of_a_long_queue_gets_wake_ups(connection: Connection, round_id: int) -> None:
    many = "INSERT INTO jobs (round_id, kind) SELECT :id, 'sample' FROM generate_series(1, 300)"
    connection.execute(text(many), {"id": round_id})
    scoring = add_job(connection, round_id, JobKind.SCORE)
    first = wakeups.claim_due_wakeups(connection)
    assert [kind for _, kind in first] == [JobKind.SAMPLE] * 128 + [JobKind.SCORE]
    assert first[-1][0] == scoring
    assert wakeups.claim_due_wakeups(connection) == []
    assert [taken(connection) for _ in range(3)] == [(job_id, 1) for job_id, _ in first[:3]]
    assert len(wakeups.claim_due_wakeups(connection)) == 3


def test_two_senders_do_not_send_the_same_wake_up(database: Database) -> None:
    add_jobs(database, JobKind.SAMPLE)
    with database.begin() as first, database.begin() as second:
        assert [len(wakeups.claim_due_wakeups(sender)) for sender in (first, second)] == [1, 0]


def test_a_job_that_waits_for_its_wake_up_too_long_is_unserved(connection: Connection, round_id: int) -> None:
    add_job(connection, round_id)
    add_job(connection, round_id, JobKind.SCORE, state=JobState.RUNNING)
    worker = add_worker(connection, "w")
    for seconds, unserved in ((8, False), (9, True)):
        change_jobs(connection, f"available_at = now() - interval '{seconds} seconds'")
        assert beat(connection, worker, takes=[JobKind.SAMPLE, JobKind.SCORE]).unserved == unserved
        assert not beat(connection, worker, takes=[JobKind.SCORE, JobKind.VERIFY]).unserved


# --- lists --------------------------------------------------------------------------------------


def test_jobs_are_listed_newest_first_with_what_they_hold(connection: Connection) -> None:
    ids = add_problems(connection, 2)
    run = add_run(connection, name="mine")
    round_id = add_iteration(connection, run, ids).id
    sampling = add_job(connection, round_id, items={ids[0]: [0, 1], ids[1]: [0]})
    failed = add_job(connection, round_id, JobKind.TRAIN, state=JobState.FAILED)
    claim(connection, add_job(connection, round_id, JobKind.VERIFY), "verifier")
    change_jobs(connection, "started_at = finished_at - interval '5 seconds', attempts = 2", failed)
    add_job(connection, add_iteration(connection, add_run(connection), [], number=1).id)
    verification, *listed = list_jobs(connection, run.id)
    assert (verification.kind, verification.worker, verification.samples) == ("verify", "verifier", 0)
    assert listed == [
        JobEntry(failed, "mine", "iteration 0", "train", "failed", 0, 2, None, 5.0, "it broke"),
        JobEntry(sampling, "mine", "iteration 0", "sample", "queued", 3, 0, None, None, None),
    ]
    assert [row.job for row in list_jobs(connection, state="failed")] == [failed]
    assert [row.run == "mine" for row in list_jobs(connection, limit=2)] == [False, True]
