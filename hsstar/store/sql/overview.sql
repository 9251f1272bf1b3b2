-- Every run in one row: how many iterations are done, where the first open one stands or why it is held, and its jobs.
--
-- Parameter: everything; without it archived runs are left out, and those that only evaluate once they are done.
WITH
states AS (
    SELECT rounds.run_id, rounds.kind, rounds.number, round_states.state
    FROM rounds
    JOIN round_states ON round_states.round_id = rounds.id
),
by_run AS (
    SELECT
        run_id,
        count(*) FILTER (WHERE kind = 'iteration') AS iterations,
        count(*) FILTER (WHERE kind = 'iteration' AND state = 'done') AS iterations_done,
        (array_agg(state ORDER BY number) FILTER (WHERE kind = 'iteration' AND state <> 'done'))[1]
            AS open_state,
        bool_or(kind = 'steps' AND state <> 'done') AS labelling,
        bool_and(state = 'done') AS evaluated
    FROM states
    GROUP BY run_id
),
live AS (
    SELECT
        rounds.run_id,
        count(*) FILTER (WHERE jobs.state = 'queued') AS queued,
        count(*) FILTER (WHERE jobs.state = 'running') AS running,
        count(*) FILTER (WHERE jobs.state = 'failed') AS failed
    FROM jobs
    JOIN rounds ON rounds.id = jobs.round_id
    WHERE jobs.state <> 'done'
    GROUP BY rounds.run_id
)
SELECT
    runs.name AS run,
    coalesce(by_run.iterations, 0) AS iterations,
    coalesce(by_run.iterations_done, 0) AS iterations_done,
    CASE
        WHEN runs.held IS NOT NULL THEN runs.held
        WHEN by_run.open_state IS NOT NULL THEN replace(by_run.open_state, '_', '-')
        WHEN by_run.evaluated IS NULL THEN 'not started'
        WHEN by_run.labelling THEN 'labelling steps'
        WHEN by_run.evaluated THEN 'done'
        ELSE 'evaluating'
    END AS state,
    coalesce(live.queued, 0) AS jobs_queued,
    coalesce(live.running, 0) AS jobs_running,
    coalesce(live.failed, 0) AS jobs_failed
FROM runs
LEFT JOIN by_run ON by_run.run_id = runs.id
LEFT JOIN live ON live.run_id = runs.id
WHERE :everything
    OR (
        runs.held IS DISTINCT FROM 'archived'
        AND NOT (runs.recipe -> 'problems' ->> 'dataset' = 'none' AND coalesce(by_run.evaluated, false))
    )
ORDER BY runs.id
