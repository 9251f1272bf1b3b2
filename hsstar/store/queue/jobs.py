"""The job queue: claims, leases, completion, failure and recovery, as short statements."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.domain.errors import EngineError, NotFoundError
from hsstar.domain.lifecycle import JobKind, JobState, retry_delay_seconds, states_before
from hsstar.domain.text import storable
from hsstar.store import notifications
from hsstar.store.database import SCHEMA_REVISION, execute_file, exists

_FREE_LAPSES = 5  # leases of a job that may expire before this counts as an attempt
_ERROR_CHARACTERS, _TRACEBACK_CHARACTERS = 2_000, 20_000


@dataclass(frozen=True, slots=True)
class Job:
    """A job that a worker holds."""

    id: int
    round_id: int
    kind: JobKind
    attempts: int  # with the present one
    token: uuid.UUID  # of the lease; it fences every write of the job
    worker: str


class LeaseLostError(EngineError):
    """The worker has lost the lease of its job, so it may write nothing."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"{job.worker} does not hold job {job.id} any more; its results are dropped")


def claim(
    connection: Connection,
    job_id: int | None,
    worker: str,
    lease_seconds: float,
    kinds: Sequence[JobKind] = (),
) -> Job | None:
    """Claim this job, or (None) the oldest one of these kinds that no other worker is claiming.

    Returns None if there is no such queued job. A worker of another schema, which would misread the rows, and
    one that was asked to stop claim nothing.
    """
    token = uuid.uuid4()
    row = execute_file(
        connection,
        "claim",
        {
            "id": job_id,
            "kinds": [kind.value for kind in kinds],
            "worker": worker,
            "token": token,
            "lease": lease_seconds,
            "before": states_before(JobState.RUNNING),
            "schema": SCHEMA_REVISION,
        },
    ).first()
    if row is None:
        return None
    return Job(row.id, row.round_id, JobKind(row.kind), row.attempts, token, worker)


def describe(connection: Connection, job_id: int) -> dict[str, str | int]:
    """Return the run, the round and the number of samples of a job, for people; empty if it is gone."""
    row = (
        connection.execute(
            text("""
            SELECT runs.name AS run, rounds.kind AS round, rounds.number, (
                SELECT coalesce(sum(cardinality(slots)), 0) FROM job_items WHERE job_id = jobs.id
            ) AS samples
            FROM jobs JOIN rounds ON rounds.id = round_id JOIN runs ON runs.id = run_id
            WHERE jobs.id = :id
        """),
            {"id": job_id},
        )
        .mappings()
        .first()
    )
    return {} if row is None else dict(row)


def problem_ids(connection: Connection, job: Job) -> list[int]:
    """Return the ids of a job's problems, in order."""
    rows = connection.execute(
        text("SELECT problem_id FROM job_items WHERE job_id = :id ORDER BY problem_id"), {"id": job.id}
    )
    return list(rows.scalars())


def fence(connection: Connection, job: Job) -> None:
    """Lock a held job in a transaction that writes a part of its results; raise LeaseLostError if lost."""
    if _lock_if_owned(connection, job) is None:
        raise LeaseLostError(job)


def complete(connection: Connection, job: Job) -> None:
    """Mark a held job done, with its results or after them; raise LeaseLostError if the lease is lost."""
    result = connection.execute(
        text("""
            UPDATE jobs
            SET state = 'done', finished_at = now(), lease_token = NULL, lease_expires_at = NULL,
                error = NULL, traceback = NULL
            WHERE id = :id AND lease_token = :token AND state = ANY (:before)
        """),
        {"id": job.id, "token": job.token, "before": states_before(JobState.DONE)},
    )
    if result.rowcount != 1:
        raise LeaseLostError(job)


def _lock_if_owned(connection: Connection, job: Job) -> int | None:
    attempts: int | None = connection.scalar(
        text("SELECT attempts FROM jobs WHERE id = :id AND lease_token = :token FOR UPDATE"),
        {"id": job.id, "token": job.token},
    )
    return attempts


def release(connection: Connection, job: Job) -> None:
    """Return a held job to the queue without counting the attempt: its worker stops."""
    connection.execute(
        text("""
            UPDATE jobs
            SET state = 'queued', attempts = attempts - 1, worker = NULL, lease_token = NULL,
                lease_expires_at = NULL, started_at = NULL, wakeup_sent_at = NULL, available_at = now()
            WHERE id = :id AND lease_token = :token
        """),
        {"id": job.id, "token": job.token},
    )


def record_failure(
    connection: Connection, job: Job, error: str, traceback: str, max_attempts: int, *, divisible: bool
) -> JobState | None:
    """End a failed attempt: queue the job again, split it in two, or fail it; None if the lease is lost.

    `error` is one line. The job is `divisible` if one of its items may cause the failure: after the last
    attempt it is bisected, until the bad item is a job of its own.
    """
    attempts = _lock_if_owned(connection, job)
    if attempts is None:
        return None
    return _end_attempt(connection, job.id, attempts, error, traceback, max_attempts, divisible)


def reset_attempts(connection: Connection, job: Job) -> None:
    """Count the present attempt of a held job as its first, because it has got further than any before."""
    connection.execute(
        text("UPDATE jobs SET attempts = 1 WHERE id = :id AND lease_token = :token"),
        {"id": job.id, "token": job.token},
    )


def split(connection: Connection, job: Job, error: str, traceback: str) -> bool:
    """Return a held job to the queue in two halves, without counting the attempt: it needed too much memory.

    Returns False if the lease is lost, or if the job is a single slot, which has to fail.
    """
    if _lock_if_owned(connection, job) is None or not _bisect(connection, job.id):
        return False
    _settle(connection, job.id, JobState.QUEUED, job.attempts - 1, error, traceback, delay=0)
    return True


def reclaim_of(connection: Connection, worker: str, max_attempts: int) -> None:
    """Reclaim the running jobs of a worker that is dead, because another process has its name by now."""
    rows = connection.execute(
        text("""
            SELECT id, attempts FROM jobs WHERE state = 'running' AND worker = :worker
            ORDER BY id FOR UPDATE SKIP LOCKED
        """),
        {"worker": worker},
    ).all()
    for row in rows:
        error = f"worker {worker} died during attempt {row.attempts}"
        _end_attempt(connection, row.id, row.attempts, error, "", max_attempts, divisible=True, delay=0)


def has_running(connection: Connection, worker: str) -> bool:
    """Tell whether running jobs are those of a worker."""
    query = text("SELECT EXISTS (SELECT FROM jobs WHERE state = 'running' AND worker = :worker)")
    return bool(connection.scalar(query, {"worker": worker}))


def reclaim_expired(connection: Connection, max_attempts: int) -> None:
    """Reclaim the running jobs whose lease has expired.

    That alone does not say that the job has killed its worker, so the first few times it is no attempt.
    """
    rows = connection.execute(
        text("""
            UPDATE jobs SET lapses = lapses + 1
            WHERE id IN (
                SELECT id FROM jobs WHERE state = 'running' AND lease_expires_at < now()
                ORDER BY id FOR UPDATE SKIP LOCKED
            )
            RETURNING id, attempts, worker, lapses
        """)
    ).all()
    for row in sorted(rows):
        error = f"worker {row.worker} stopped answering during attempt {row.attempts}"
        if row.lapses <= _FREE_LAPSES:
            _settle(connection, row.id, JobState.QUEUED, row.attempts - 1, error, "", delay=0)
        else:
            _end_attempt(connection, row.id, row.attempts, error, "", max_attempts, divisible=True, delay=0)


def _end_attempt(
    connection: Connection,
    job_id: int,
    attempts: int,
    error: str,
    traceback: str,
    max_attempts: int,
    divisible: bool,
    delay: float | None = None,
) -> JobState:
    state = JobState.QUEUED
    if attempts >= max_attempts:
        if divisible and _bisect(connection, job_id):
            attempts = max_attempts - 1
        else:
            state = JobState.FAILED
    if delay is None:
        delay = retry_delay_seconds(attempts)
    _settle(connection, job_id, state, attempts, error, traceback, delay)
    if state is JobState.FAILED:
        notifications.decide_failure(connection, job_id, error)
    return state


def _settle(
    connection: Connection,
    job_id: int,
    state: JobState,
    attempts: int,
    error: str,
    traceback: str,
    delay: float,
) -> None:
    connection.execute(
        text("""
            UPDATE jobs
            SET state = :state, attempts = :attempts, error = :error, traceback = :traceback,
                lease_token = NULL, lease_expires_at = NULL, wakeup_sent_at = NULL,
                finished_at = CASE WHEN :state = 'failed' THEN now() END,
                available_at = now() + make_interval(secs => :delay)
            WHERE id = :id
        """),
        {
            "id": job_id,
            "state": state,
            "attempts": attempts,
            "error": storable(error)[:_ERROR_CHARACTERS],
            "traceback": storable(traceback)[-_TRACEBACK_CHARACTERS:],
            "delay": delay,
        },
    )


def _bisect(connection: Connection, job_id: int) -> bool:
    """Move half of a job's slots to a new job; False if it has only one slot."""
    rows = connection.execute(
        text("SELECT problem_id, unnest(slots) AS slot FROM job_items WHERE job_id = :id ORDER BY 1, 2"),
        {"id": job_id},
    ).all()
    if len(rows) < 2:
        return False
    other = connection.execute(
        text("""
            INSERT INTO jobs (round_id, kind, attempts)
            SELECT round_id, kind, attempts - 1 FROM jobs WHERE id = :id RETURNING id
        """),
        {"id": job_id},
    ).scalar_one()
    connection.execute(text("DELETE FROM job_items WHERE job_id = :id"), {"id": job_id})
    middle = len(rows) // 2
    for owner, part in ((job_id, rows[:middle]), (other, rows[middle:])):
        connection.execute(
            text("""
                INSERT INTO job_items (job_id, problem_id, slots)
                SELECT :job_id, problem_id, array_agg(slot ORDER BY slot)
                FROM unnest(CAST(:problems AS bigint[]), CAST(:slots AS int[]))
                    AS part (problem_id, slot)
                GROUP BY problem_id
            """),
            {
                "job_id": owner,
                "problems": [row.problem_id for row in part],
                "slots": [row.slot for row in part],
            },
        )
    connection.execute(
        text("""
            UPDATE jobs SET drawn = (
                SELECT count(*) FROM job_items JOIN samples
                    ON samples.problem_id = job_items.problem_id AND samples.slot = ANY (slots)
                WHERE job_id = jobs.id AND samples.round_id = jobs.round_id AND jobs.kind = 'sample'
            )
            WHERE id = ANY (:ids)
        """),
        {"ids": [job_id, other]},
    )
    return True


def retry(connection: Connection, run_id: int | None, job_ids: Sequence[int]) -> list[int]:
    """Queue failed jobs again, with new attempts, of one run or these ids where given; return their ids.

    Those of held runs stay failed. Raise NotFoundError if a named job does not exist, or stays as it is.
    """
    rows = connection.execute(
        text("""
            UPDATE jobs
            SET state = 'queued', attempts = 0, lapses = 0, finished_at = NULL, wakeup_sent_at = NULL,
                available_at = now()
            FROM rounds JOIN runs ON runs.id = rounds.run_id
            WHERE rounds.id = jobs.round_id AND jobs.state = 'failed' AND runs.held IS NULL
              AND (CAST(:run_id AS bigint) IS NULL OR rounds.run_id = :run_id)
              AND (cardinality(CAST(:ids AS bigint[])) = 0 OR jobs.id = ANY (CAST(:ids AS bigint[])))
            RETURNING jobs.id
        """),
        {"run_id": run_id, "ids": list(job_ids)},
    )
    retried = sorted(rows.scalars())
    if missing := sorted(set(job_ids) - set(retried)):
        raise NotFoundError(
            f"no failed job has the id {', '.join(map(str, missing))}; see: hsstar jobs list --state failed"
        )
    return retried


def withdraw(connection: Connection, run_id: int, *, running: bool) -> int:
    """Delete the queued jobs of a run, and its `running` ones; return how many of these there were.

    A worker notices with its next write, which its lease no longer allows. What the jobs lacked is planned
    again once the run is not held. The caller holds the run's lock.
    """
    rows = connection.execute(
        text("""
            DELETE FROM jobs USING rounds
            WHERE rounds.id = jobs.round_id AND run_id = :run_id
              AND (jobs.state = 'queued' OR :running AND jobs.state = 'running')
            RETURNING jobs.state
        """),
        {"run_id": run_id, "running": running},
    )
    return sum(state == JobState.RUNNING for state in rows.scalars())


def count_running(connection: Connection, run_id: int) -> int:
    """Count the running jobs of a run."""
    query = text("""
        SELECT count(*) FROM jobs JOIN rounds ON rounds.id = round_id
        WHERE run_id = :run_id AND state = 'running'
    """)
    return int(connection.execute(query, {"run_id": run_id}).scalar_one())


def is_training(connection: Connection, run_id: int) -> bool:
    """Tell whether a training of a run is queued or running."""
    query = text("""
        SELECT FROM jobs JOIN rounds ON rounds.id = round_id
        WHERE run_id = :run_id AND jobs.kind = 'train' AND state IN ('queued', 'running') LIMIT 1
    """)
    return exists(connection, query, {"run_id": run_id})
