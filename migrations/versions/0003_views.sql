-- The views of 0001 with further columns at their ends.

CREATE OR REPLACE VIEW sample_facts AS
SELECT
    runs.name AS run,
    rounds.number AS iteration,
    samples.problem_id,
    samples.slot,
    CASE WHEN samples.slot < iterations.pre_samples THEN 'pre' ELSE 're' END AS phase,
    difficulty_labels.level AS difficulty,
    samples.verdict,
    samples.cause,
    samples.min_reward,
    samples.tokens,
    samples.finish_reason,
    models.name AS model,
    samples.worker,
    samples.created_at,
    samples.cumulative_logprob,
    samples.seed,
    samples.engine,
    samples.milliseconds
FROM samples
JOIN iterations USING (round_id)
JOIN rounds ON rounds.id = samples.round_id
JOIN runs ON runs.id = rounds.run_id
LEFT JOIN models ON models.id = samples.model_id
LEFT JOIN difficulty_labels USING (round_id, problem_id);

CREATE OR REPLACE VIEW worker_activity AS
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
    workers.noted_at
FROM workers
LEFT JOIN LATERAL (
    SELECT id, kind, started_at, count(*) OVER () AS jobs
    FROM jobs
    WHERE jobs.worker = workers.name AND jobs.state = 'running'
    ORDER BY started_at, id
    LIMIT 1
) AS current_job ON true;
