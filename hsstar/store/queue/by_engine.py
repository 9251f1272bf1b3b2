"""The queue by engine, for a worker whose memory holds one engine."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.engine_schedule import EngineKey, WaitingJobs
from hsstar.domain.lifecycle import JobKind


def waiting_jobs(connection: Connection, kinds: Sequence[JobKind]) -> list[WaitingJobs]:
    """Return the queued jobs of these kinds that may start now, by the engine that they need."""
    rows = connection.execute(
        text("""
            SELECT kind, model_id, (array_agg(id ORDER BY available_at, id))[1] AS job_id,
                CAST(extract(epoch FROM now() - min(available_at)) AS float) AS seconds
            FROM (
                SELECT jobs.id, jobs.kind, jobs.available_at,
                    CASE jobs.kind
                        WHEN 'sample' THEN coalesce(rounds.model_id, runs.model_id)
                        WHEN 'score' THEN runs.reward_model_id
                    END AS model_id
                FROM jobs
                JOIN rounds ON rounds.id = jobs.round_id
                JOIN runs ON runs.id = rounds.run_id
                WHERE jobs.state = 'queued' AND jobs.available_at <= now() AND jobs.kind = ANY (:kinds)
            ) AS queued
            GROUP BY kind, model_id
        """),
        {"kinds": [kind.value for kind in kinds]},
    )
    return [WaitingJobs(EngineKey(JobKind(row.kind), row.model_id), row.job_id, row.seconds) for row in rows]
