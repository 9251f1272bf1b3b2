"""The queue by engine, for a worker whose memory holds one engine."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

from hsstar.domain.engine_schedule import EngineKey, WaitingJobs
from hsstar.domain.lifecycle import JobKind


def waiting_jobs(connection: Connection, kinds: Sequence[JobKind]) -> list[WaitingJobs]:
    """Return the queued jobs of these kinds that may start now, by the engine that they need."""
    rows = connection.execute(
        text("""
            SELECT kind, model_ids, (array_agg(id ORDER BY available_at, id))[1] AS job_id,
                CAST(extract(epoch FROM now() - min(available_at)) AS float) AS seconds
            FROM (
                SELECT jobs.id, jobs.kind, jobs.available_at,
                    CASE jobs.kind
                        WHEN 'sample' THEN ARRAY[coalesce(rounds.model_id, runs.model_id)]
                        WHEN 'score' THEN ARRAY(
                            SELECT DISTINCT reward_model_id FROM run_rewards
                            WHERE run_rewards.run_id = runs.id AND in_force ORDER BY 1
                        )
                        ELSE CAST('{}' AS bigint[])
                    END AS model_ids
                FROM jobs
                JOIN rounds ON rounds.id = jobs.round_id
                JOIN runs ON runs.id = rounds.run_id
                WHERE jobs.state = 'queued' AND jobs.available_at <= now() AND jobs.kind = ANY (:kinds)
            ) AS queued
            GROUP BY kind, model_ids
        """),
        {"kinds": [kind.value for kind in kinds]},
    )
    return [
        WaitingJobs(EngineKey(JobKind(row.kind), tuple(row.model_ids)), row.job_id, row.seconds)
        for row in rows
    ]
