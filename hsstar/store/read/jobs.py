"""Jobs as a list of jobs shows them."""

from dataclasses import dataclass

from sqlalchemy import Connection, text

from hsstar.store.database import rows_of


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A job; `seconds` is None until it has ended."""

    job: int
    run: str
    round: str
    kind: str
    state: str
    samples: int
    attempts: int
    worker: str | None
    seconds: float | None
    error: str | None


def list_jobs(
    connection: Connection, run_id: int | None = None, state: str | None = None, limit: int = 50
) -> list[JobEntry]:
    """List the newest jobs, newest first, optionally of one run or in one state."""
    rows = connection.execute(
        text("""
            SELECT jobs.id AS job, runs.name AS run, rounds.kind || ' ' || rounds.number AS round, jobs.kind,
                jobs.state, coalesce(samples, 0) AS samples, attempts, worker,
                CAST(extract(epoch FROM finished_at - started_at) AS double precision) AS seconds, error
            FROM jobs
            JOIN rounds ON rounds.id = jobs.round_id
            JOIN runs ON runs.id = rounds.run_id
            CROSS JOIN LATERAL (
                SELECT sum(cardinality(slots)) AS samples FROM job_items WHERE job_id = jobs.id
            ) AS held
            WHERE (CAST(:run_id AS bigint) IS NULL OR runs.id = :run_id)
              AND (CAST(:state AS text) IS NULL OR jobs.state = :state)
            ORDER BY jobs.id DESC
            LIMIT :limit
        """),
        {"run_id": run_id, "state": state, "limit": limit},
    )
    return rows_of(rows, JobEntry)
