-- A row per worker: its state, its oldest running job, its work so far.
CREATE VIEW worker_activity AS
SELECT
    workers.name AS worker,
    workers.host,
    workers.role,
    CASE
        WHEN workers.state <> 'stopped' AND workers.last_heartbeat < now() - interval '1 minute' THEN 'lost'
        WHEN workers.state <> 'stopped' AND current_job.id IS NOT NULL THEN 'busy'
        ELSE workers.state
    END AS state,
    current_job.id AS job,
    current_job.kind AS job_kind,
    current_job.started_at AS since,
    workers.jobs_done,
    workers.last_heartbeat,
    coalesce(current_job.jobs, 0) AS jobs,
    workers.note,
    workers.noted_at,
    workers.gpu,
    workers.tokens_done,
    workers.version,
    workers.stop_requested_at
FROM workers
LEFT JOIN (
    SELECT DISTINCT ON (worker)
        worker,
        id,
        kind,
        started_at,
        count(*) OVER (PARTITION BY worker) AS jobs
    FROM jobs
    WHERE state = 'running'
    ORDER BY worker, started_at, id
) AS current_job ON current_job.worker = workers.name;
